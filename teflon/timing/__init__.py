"""How long models take, by the drivers' models of time."""
