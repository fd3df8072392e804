"""One inference over several cores: parts of feature maps, each computed by a core of its own.

Cores of one chip that run jobs of different open files share no addresses, so that nothing can be
handed over between operations. A program is therefore cut into *stages*; in a stage every core
computes some rows of the stage's results from the rows of its inputs that these need, rows at
borders being computed twice, or some of their channels from all channels of the input. The host
joins the parts. A part is an ordinary graph: the device's own compiler makes its program.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity and one address space for each file)
