"""Models, pictures and digits to try the rest with."""
