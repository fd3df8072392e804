"""From a model file to what a chip executes: partitions, plans, programs, the compile cache."""
