"""Predicting times by the drivers' models of time: estimates, schedules, cameras, charts."""
