"""The kernels of a layer as rows of whole numbers, with the scale of each output channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.ir.graph import Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.types import DType
from teflon_etnaviv.nn.layer import I32
from teflon_etnaviv.nn.weights import bias_of

Weighted = Conv2D | DepthwiseConv2D | FullyConnected
Order = npt.NDArray[np.intp]
"""Which channel lies in each plane."""
F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of a layer.

    bytes_: uint8 [channels, weights of a kernel], with the zero point `zero`; scales: float64
    [channels]; bias: int32 [channels].
    """

    bytes_: U8
    zero: int
    scales: F64
    bias: I32

    @property
    def channels(self) -> int:
        return len(self.scales)

    def less_zero(self) -> F32:
        """Return the weights less their zero point."""
        found = self.bytes_.astype(np.float32)
        found -= np.float32(self.zero)
        return found

    @cached_property
    def lowest(self) -> F64:
        """The smallest weight of each channel, as a real number, at most 0."""
        found: F64 = np.minimum(self.bytes_.min(axis=1) - float(self.zero), 0) * self.scales
        return found

    @cached_property
    def highest(self) -> F64:
        """The largest weight of each channel, as a real number, at least 0."""
        found: F64 = np.maximum(self.bytes_.max(axis=1) - float(self.zero), 0) * self.scales
        return found


def per_channel(op: Weighted) -> bool:
    """Whether the weights have more than one scale."""
    kind = op.weights.type.quantization
    return kind is not None and len(set(kind.scales)) > 1


def kernels_of(op: Weighted) -> Kernels:
    """Return the kernels of an operation whose weights are constant bytes."""
    depthwise = isinstance(op, DepthwiseConv2D)
    channels = op.weights.shape[3 if depthwise else 0]
    data = _unsigned(op.weights)
    rows = data.reshape(-1, channels).T if depthwise else data.reshape(channels, -1)
    kind = op.weights.type.quantization
    scales = kind.scales if kind else (1.0,)
    shift = 128 * (op.weights.type.dtype is DType.INT8)
    return Kernels(
        np.ascontiguousarray(rows),
        op.weights.type.zero_point + shift,
        np.broadcast_to(np.array(scales, np.float64), channels),
        bias_of(op.bias, channels),
    )


def _unsigned(value: Value) -> U8:
    assert value.data is not None, "a rule asks for it"
    data: Any = value.data.view(np.uint8)
    found: U8 = data ^ np.uint8(0x80) if value.type.dtype is DType.INT8 else data
    return found
