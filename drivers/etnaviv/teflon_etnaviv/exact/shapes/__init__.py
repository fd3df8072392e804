"""Convolutions of any shape, made of those that the NN cores compute, and of moves.

A shape is rewritten into an ordinary convolution of other values: whatever lowers that one need not
know where it comes from.
"""
