"""The compiler's common part: from a model file to programs, with plans and the compile cache."""
