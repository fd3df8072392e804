"""How a model is quantised: what the options of `teflon quantize` say."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT, INT8 = "float", "int8"
MINMAX, AVERAGE = "minmax", "average"
LEAST_RANGE = 1e-6
"""Channels of almost no weights get scales as if they reached to this: chips cannot take any."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen."""

    per_tensor: bool = False
    """One scale for all weights of a layer instead of one for each output channel."""
    io: str = FLOAT
    """FLOAT: inputs and outputs stay as they are, and are converted inside. INT8: they are int8."""
    range: str = MINMAX
    """Of an activation: MINMAX of all samples, or the moving AVERAGE of each sample's."""
