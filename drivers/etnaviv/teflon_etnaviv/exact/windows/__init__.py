"""Windows over each channel by itself: largest elements, means; and moves of planes."""
