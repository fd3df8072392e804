"""What Mesa 26.2.6 takes, whatever the chip.

Ref: docs/hardware/etnaviv.md section 10.1
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Numbers of Mesa's own; the rules of strategy mesa name them in braces."""

    inputs_end: int = 1280  # the first number of inputs of a fully connected layer that is refused
    pad_max: int = 2  # elements on each side of an axis
    clamp_max: float = 6.0  # what an output with RELU6 may mean at most


LIMITS = Limits()
