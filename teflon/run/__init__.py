"""Models that are loaded into devices and run: one at a time, queued, on several cores."""
