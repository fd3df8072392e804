"""What the chip is given, as text: single commands, whole programs."""
