"""How strategy mesa codes a layer: byte for byte as Mesa 26.2.6.

Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c, etnaviv_ml_nn_v7.c, etnaviv_ml_nn_v8.c
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn import coefs_v8
from teflon_etnaviv.nn.coding import LayerCoding, Order, Scale
from teflon_etnaviv.nn.layer import U8, Layer
from teflon_etnaviv.rounding import align

_SPLIT_COLUMNS = 3
_SPLIT_FROM = 64  # rows of an image beyond which kernels of one channel are split
_LENGTHS = coefs_v8.bit_lengths(of_minus_one=1)  # its logarithm of 0 is 0, so -1 counts as one bit


class MesaCoding(LayerCoding):
    """What Mesa writes, with its mistakes."""

    def kernel_axes(self, layer: Layer) -> tuple[int, int]:
        """Exchange columns and rows (B6)."""
        return layer.kernel_height, layer.kernel_width

    def scale(self, scale: np.float32, chip: Chip) -> Scale:
        """Take the bits of the float; V7 keeps 15 bits of the fraction, not rounded."""
        bits = int(np.float32(scale).view(np.uint32))
        exponent = bits >> 23
        if chip.huffman:
            return Scale(bits & 0x7FFFFF, (127 - exponent) % 128)
        return Scale((bits >> 8) & 0x7FFF, (142 - exponent) % 128)

    def column_parts(self, layer: Layer, order: Order) -> Sequence[range]:
        """Bound the second part by the rows; of kernels of one channel split only some."""
        split = layer.kernel_width > _SPLIT_COLUMNS
        if order is Order.SEQUENTIAL:
            split = split and (layer.depthwise or layer.height > _SPLIT_FROM)
        if not split:
            return [range(layer.kernel_width)]
        return [range(_SPLIT_COLUMNS), range(_SPLIT_COLUMNS, layer.kernel_height)]

    def run_widths(self, layer: Layer, chip: Chip, costs: Sequence[Sequence[int]]) -> Sequence[int]:
        """Search from the widest down, to the first minimum; all cores have the same width.

        The table's size is in all candidates alike, so it is left out.
        Ref: docs/hardware/etnaviv.md section 7.3
        """
        cores = len(costs)
        if layer.addend is not None or layer.pointwise:
            return [0] * cores
        chosen, best = 0, 1 << 62
        for width in range(chip.nn_zrl_bits, -1, -1):
            total = sum(align(row[width], 32) for row in costs)
            if total > best:
                break
            chosen, best = width, total
        return [chosen] * cores

    def symbol_map(self, layer: Layer, values: Sequence[U8]) -> list[int]:
        """Count the raw bytes of the weights, not what is coded."""
        return coefs_v8.symbol_map([layer.weights.data], _LENGTHS)


CODING = MesaCoding()
