"""One inference on several cores: each core computes a part of the feature maps.

Cores run jobs of different open files, and these share no addresses. So a core cannot read the
results of another one; the host must copy them. A partition is therefore cut into *stages*. In a
stage each core computes a *part*: some rows of the stage's results, or some of their channels. The
host joins the parts before the next stage.

A part in rows reads the input rows that its own rows depend on, so rows at the borders are computed
twice. A part in channels reads all channels of the input. Each part is an ordinary graph, which the
device's own compiler compiles.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity and one address space for each file)
