"""CPU: the reference, bit-equal to TFLite's reference kernels."""
