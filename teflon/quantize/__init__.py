"""Float models to 8 bits: calibration data, the libraries that do it, and what it changes."""
