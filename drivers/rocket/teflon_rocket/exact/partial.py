# Ref: docs/hardware/rocket_vendor.md §0.5, §1 (C split threshold: no kernel has more than 3072
# Ref: bytes in the vendor's programs)
"""Kernels of more bytes than a pass takes: partial sums of 16 bits, added up by a convolution.

The vendor halves the input channels, keeps the first half's result as int8 and adds it to the
second; that costs up to half of what a step of the partial result is worth, which can be many
steps of the output. Here each part makes two maps. `high` is the partial sum in steps so coarse
that it fits int8 for every input. `low` is what `high` leaves: the same convolution, with `high`
taken off it by the DPU's EW stage. A 1x1 convolution adds 127 * high + low of all parts and gives
the sum its scale. What is lost is half a step of `low` for each part.
"""

from __future__ import annotations

MOST_BYTES = 3072
"""Of one kernel in one pass."""
_STEPS = 127
"""Steps of `low` in one of `high`."""
_LARGEST = 2**15 - 1
"""EW multiplies `high` by it at most."""
