"""Running models: load them into devices, call or queue inferences, use several cores."""
