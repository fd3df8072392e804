"""What is known of each tensor of a file while it is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.frontend.onnx.layout import View
from teflon.frontend.onnx.model import Node
from teflon.frontend.onnx.types import QType, dtype_of
from teflon.ir import Value
from teflon.ir.types import Activation, Array, DType, Quantization, TensorType

EIGHT_BIT = (DType.UINT8, DType.INT8)


@dataclass(eq=False)
class Tensor:
    """One tensor of the file.

    Of a float32 tensor that is another one dequantised, `steps` has the quantised one; of one that
    is a function of such a tensor, element by element, `function` has it.
    """

    name: str
    number: int
    code: int = 0
    shape: tuple[int, ...] | None = None
    data: Array | None = None
    real: View | None = None
    steps: View | None = None
    function: Function | None = None
    source: View | None = None
    """What a Reshape flattened to this one, its axes in another order."""
    pending: Node | None = None
    """The node that makes it, where that is left out as long as nobody needs its float numbers."""
    from_runtime: bool = False
    dynamic: bool = False
    value: Value | None = None
    """The tensor as the file has it."""

    @property
    def dtype(self) -> DType:
        return dtype_of(self.code)

    @property
    def is_constant(self) -> bool:
        return self.data is not None or (
            self.steps is not None and self.steps.value.is_constant and self.real is None
        )


@dataclass(frozen=True, eq=False)
class Function:
    """The numbers that a float tensor has for each of the 256 values of a quantised one."""

    of: View
    numbers: Array
    called: tuple[str, ...]


class Sign(Enum):
    """How quantised tensors are held: as the file has them, or all with one sign.

    TFLite's kernels, and the drivers, want activations and weights of one type. 128 added to values
    and zero points changes no real number.
    """

    KEEP = 0
    SIGNED = 1
    UNSIGNED = 2

    def held(self, kind: QType) -> QType:
        """Return how a quantised tensor is held."""
        wanted = {Sign.SIGNED: DType.INT8, Sign.UNSIGNED: DType.UINT8}.get(self, kind.dtype)
        return converted(kind, wanted)


def converted(kind: QType, dtype: DType) -> QType:
    """Return an 8-bit quantisation with the other sign; others as they are."""
    if kind.dtype is dtype or kind.dtype not in EIGHT_BIT:
        return kind
    shift = -128 if dtype is DType.INT8 else 128
    zero_points = tuple(z + shift for z in kind.zero_points)
    return dataclasses.replace(kind, dtype=dtype, zero_points=zero_points)


def shifted(data: Array, dtype: DType) -> Array:
    """Return 8-bit values with the other sign."""
    if data.dtype == dtype.numpy or data.dtype.itemsize != 1:
        return data
    return np.asarray(data.view(np.uint8) ^ np.uint8(128)).view(dtype.numpy)


def quantization(kind: QType, view_axis: int | None = None) -> Quantization:
    """Return the IR's form, its axis counted in the value."""
    return Quantization(kind.scales, kind.zero_points, view_axis if kind.axis is not None else None)


def typed(kind: QType, shape: tuple[int, ...] = ()) -> TensorType:
    """Return the type of a value that is quantised per tensor."""
    return TensorType(kind.dtype, shape, quantization(kind))


def qtype(
    scale: Array, zero: Array | None, axis: int, shape: tuple[int, ...] | None, default: DType
) -> QType:
    """Return what the operands of a node say. Raises ValueError with a reason."""
    if scale.dtype != np.float32:
        raise ValueError(f"scale is {scale.dtype}, must be float32")
    if scale.ndim > 1 or not scale.size:
        raise ValueError(f"scale has the shape {list(scale.shape)}, must have one axis at most")
    scales = tuple(map(float, scale.reshape(-1).tolist()))
    bad = next((s for s in scales if not 0 < s < math.inf), None)
    if bad is not None:
        raise ValueError(f"scale is {bad:g}, must be positive and finite")
    dtype = default if zero is None else _zero_type(zero)
    zeros = (0,) * len(scales) if zero is None else tuple(map(int, zero.reshape(-1).tolist()))
    if len(zeros) not in (1, len(scales)):
        raise ValueError(f"has {len(zeros)} zero points, must have {len(scales)} as it has scales")
    zeros = zeros * len(scales) if len(zeros) == 1 else zeros
    if len(scales) == 1:
        return QType(dtype, scales, zeros)
    if shape is None:
        raise ValueError("is quantised per axis and its shape is not known")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis is {axis}, must be one of {len(shape)}")
    axis %= len(shape)
    if shape[axis] != len(scales):
        raise ValueError(f"has {len(scales)} scales, must have {shape[axis]}, the size of its axis")
    return QType(dtype, scales, zeros, axis)


def _zero_type(zero: Array) -> DType:
    try:
        return DType.of(zero.dtype)
    except KeyError:
        raise ValueError(f"zero point is {zero.dtype}, must be uint8 or int8") from None


def quantised(data: Array, kind: QType) -> Array:
    """Return float numbers as quantised ones, rounded half to even as ONNX has it."""
    scale, zero = _along(kind, data.ndim)
    with np.errstate(all="ignore"):
        steps = np.rint(data.astype(np.float32) / scale).astype(np.float64) + zero
    low, high = kind.dtype.range
    steps = np.nan_to_num(np.clip(steps, low, high), nan=float(kind.zero_point))
    return steps.astype(kind.dtype.numpy)


def dequantised(data: Array, kind: QType) -> Array:
    """Return quantised numbers as float32."""
    scale, zero = _along(kind, data.ndim)
    with np.errstate(over="ignore"):
        return ((data.astype(np.float64) - zero).astype(np.float32) * scale).astype(np.float32)


def _along(kind: QType, rank: int) -> tuple[Array, Array]:
    shape = [1] * rank
    if kind.axis is not None:
        shape[kind.axis] = len(kind.scales)
    scale = np.array(kind.scales, np.float32).reshape(shape if kind.axis is not None else ())
    zero = np.array(kind.zero_points, np.float64).reshape(shape if kind.axis is not None else ())
    return scale, zero


_ACTIVATIONS: Mapping[tuple[float, float], Activation] = {
    (-math.inf, math.inf): Activation.NONE,
    (0.0, math.inf): Activation.RELU,
    (0.0, 6.0): Activation.RELU6,
    (-1.0, 1.0): Activation.RELU_N1_TO_1,
}


@dataclass(frozen=True, eq=False)
class Target:
    """The quantised tensor that an operation's result becomes, and what lies between.

    `held` is how the IR has it; `low` and `high` are the bounds of activations before it.
    """

    name: str
    number: int
    declared: QType
    held: QType
    low: float = -math.inf
    high: float = math.inf
    skipped: tuple[Node, ...] = field(default=())
    quantisers: tuple[Node, ...] = field(default=())

    @property
    def activation(self) -> Activation | None:
        """The bounds as TFLite has them; None for others."""
        return _ACTIVATIONS.get((self.low, self.high))

    @property
    def clamp(self) -> tuple[int, int]:
        """The bounds in steps."""
        least, most = self.held.dtype.range
        bounds = []
        for real, beyond in ((self.low, least), (self.high, most)):
            if math.isinf(real):
                bounds.append(beyond)
                continue
            step = round(real / self.held.scale) + self.held.zero_point
            bounds.append(min(max(step, least), most))
        return bounds[0], bounds[1]

    @property
    def index(self) -> int:
        """The number of the tensor in the file, if it is held as it is there."""
        return self.number if self.declared == self.held else -1


def unread(title: str, reason: str) -> UnsupportedOperation:
    """Return the error for a node that stays opaque, for this reason."""
    return UnsupportedOperation(title, [reason])
