"""What happened, for people: reports, Mesa's tables, layers beside the reference."""
