"""The numbers of the model of time: what a chip does in a millisecond.

Ref: docs/hardware/etnaviv.md section 1.1 (MACs per cycle: cores, MADs, dot products)
Ref: Linux, arch/arm64/boot/dts/freescale/imx8mp.dtsi: ML core clock 1 GHz (800 MHz in nominal mode)
Ref: docs/hardware/etnaviv.md section 1.1: 800 MHz is the vendor's figure for A311D
Ref: docs/estimate.md says how the fitted constants were found (tools/fit_estimate.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from teflon_etnaviv.chips import Chip


@dataclass(frozen=True)
class Rates:
    """What a chip does in a millisecond. Starting an instruction is taken as free: fitted with the
    rest it comes out as 4 us (A311D), and hardly moves a prediction.
    """

    cycles: float
    """Of the NN cores. Published."""
    products: int
    """Multiply-accumulates of one MAD and cycle. Published."""
    memory: float
    """Bytes moved from or to DRAM. Fitted."""
    host: float
    """Bytes that one CPU core copies. Assumed."""


RATES: Mapping[str, Rates] = MappingProxyType(
    {
        "a311d": Rates(cycles=800e3, products=6, memory=4.95e6, host=1e6),
        # nothing is published: the numbers of the A311D, not calibrated
        "s905d3": Rates(cycles=800e3, products=6, memory=4.95e6, host=1e6),
        "imx8mp": Rates(cycles=1000e3, products=3, memory=3.9e6, host=1e6),
    }
)


SUBMIT = 0.0175
"""Milliseconds for each program that the kernel is given: request, interrupt, waking up.
Assumed: 15 to 20 us are published for the RK3588's kernel driver, docs/hardware/rocket.md §1.6.
"""


@dataclass(frozen=True)
class Variant:
    """What the driver made use of at some date; the default is what the program says."""

    compressed: bool = True
    """Coefficients are coded; without, every weight takes a byte."""
    image_cache: bool = True
    """Tiles of the input stay in SRAM while all superblocks use them."""


TODAY = Variant()


@dataclass(frozen=True)
class Model:
    """The model of time of one chip."""

    chip: Chip
    rates: Rates
    variant: Variant = TODAY
