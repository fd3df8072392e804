"""The layer of a fully connected operation: a convolution with one output pixel.

Ref: docs/hardware/etnaviv.md sections 4.10, 7.2 and 10.3 (B19)
"""

from __future__ import annotations

from teflon.ir.ops import FullyConnected
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.activation import clamps_below
from teflon_etnaviv.exact.layers.weights import output_scale, unsigned_weights
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.weights import bias_of, folded, grown
from teflon_etnaviv.tensors import Tensor


def fully_connected(op: FullyConnected, chip: Chip) -> Layer:
    """Return the layer of a fully connected operation: a convolution with one output pixel.

    On V7 its planes follow one another as the cores read them (B19).
    """
    target = Tensor.of(op.output)
    inputs, outputs = op.weights.shape[-1], op.weights.shape[0]
    x, y, planes = folded(inputs, chip.kernel_size_max)
    layer = Layer(
        height=y,
        width=x,
        in_channels=planes,
        planes=planes,
        out_height=1,
        out_width=1,
        out_channels=outputs,
        kernel_height=y,
        kernel_width=x,
        in_zero=Tensor.of(op.input).zero_point,
        out_zero=target.zero_point,
        scale=output_scale(op.input.type.scale, op.weights.type.scale, op.output.type.scale),
        weights=unsigned_weights(op.weights),
        bias=bias_of(op.bias, outputs),
        pointwise=(x, y) == (1, 1),
        relu=clamps_below(op),
        title=op.title,
    )
    return grown(layer) if inputs == 1 else layer
