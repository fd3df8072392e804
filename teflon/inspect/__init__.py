"""Output for people: reports, Mesa's tables, comparison of each layer with the reference."""
