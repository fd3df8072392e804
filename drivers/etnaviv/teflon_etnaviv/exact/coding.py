"""How strategy exact codes a layer: as the hardware walks it, in the fewest bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn import coefs_v8
from teflon_etnaviv.nn.coding import LayerCoding, Order, Scale
from teflon_etnaviv.nn.layer import U8, Layer

_SPLIT_COLUMNS = 3
"""A MAD takes two rows of three columns at a time. Ref: docs/hardware/etnaviv.md section 7.2"""
_LENGTHS = coefs_v8.bit_lengths(of_minus_one=0)


class ExactCoding(LayerCoding):
    """Every axis in its place, the nearest scale, the smallest streams that the formats express."""

    def kernel_axes(self, layer: Layer) -> tuple[int, int]:
        return layer.kernel_width, layer.kernel_height

    def scale(self, scale: np.float32, chip: Chip) -> Scale:
        """Return the multiplier and shift that are closest."""
        fraction_bits = 23 if chip.huffman else 15
        mantissa, exponent = math.frexp(float(scale))  # scale = mantissa * 2^exponent, m >= 0.5
        multiplier = round((2 * mantissa - 1) * (1 << fraction_bits))
        exponent -= 1
        if multiplier >> fraction_bits:
            multiplier, exponent = 0, exponent + 1
        return Scale(multiplier, (fraction_bits * (not chip.huffman) - exponent) % 128)

    def column_parts(self, layer: Layer, order: Order) -> Sequence[range]:
        columns = layer.kernel_width
        if columns <= _SPLIT_COLUMNS or layer.is_one_window:
            return [range(columns)]
        return [range(_SPLIT_COLUMNS), range(_SPLIT_COLUMNS, columns)]

    def run_widths(self, layer: Layer, chip: Chip, costs: Sequence[Sequence[int]]) -> Sequence[int]:
        """Return each core's smallest width among those of the fewest bits."""
        widths = range(chip.nn_zrl_bits + 1)
        return [min(widths, key=lambda width: (row[width], width)) for row in costs]

    def symbol_map(self, layer: Layer, values: Sequence[U8]) -> list[int]:
        """Count what is really coded."""
        return coefs_v8.symbol_map(values, _LENGTHS)


CODING = ExactCoding()
