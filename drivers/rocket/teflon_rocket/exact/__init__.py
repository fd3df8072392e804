"""Strategy `exact`, the default: programs that compute what the model says."""
