"""Core and cross-driver tests; `paths` and `oracle` also serve the drivers' own tests."""
