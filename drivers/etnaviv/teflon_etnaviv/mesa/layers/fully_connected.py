"""The layer of the fully connected operation, as Mesa forms it.

Ref: docs/hardware/etnaviv.md sections 4.3, 4.10
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c
"""

from __future__ import annotations

from teflon.ir.ops import FullyConnected
from teflon_etnaviv.mesa.layers.weights import file_weights, output_scale
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.weights import bias_of, folded
from teflon_etnaviv.tensors import Tensor

_FACTOR_MAX = 15
"""Largest kernel as which the inputs of a fully connected layer are seen, on every chip."""


def fully_connected(op: FullyConnected) -> Layer:
    """Return the layer of a fully connected operation; its activation is ignored, as in Mesa."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    inputs, outputs = op.weights.shape[-1], target.shape[3]
    return Layer(
        height=inputs,
        width=1,
        in_channels=1,
        planes=1,
        out_height=1,
        out_width=1,
        out_channels=outputs,
        kernel_height=inputs,
        kernel_width=1,
        in_zero=source.zero_point,
        out_zero=target.zero_point,
        scale=output_scale(op.input, op.weights, target),
        weights=file_weights(op.weights),
        bias=bias_of(op.bias, outputs),
        folded=folded(inputs, _FACTOR_MAX),
        title=op.title,
    )
