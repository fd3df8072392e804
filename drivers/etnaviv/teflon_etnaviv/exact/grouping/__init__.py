"""Layers with a scale for each output channel, on cores that have one scale for each job.

Output channels are sorted by scale and cut into groups; each group is a job. docs/per-channel.md
explains the method.
"""
