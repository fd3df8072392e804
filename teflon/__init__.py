"""Teflon for Python: run quantised models on open-driver NPUs, or on simulators of them."""
