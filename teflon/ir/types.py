"""What a tensor is: element type, shape, affine quantisation; and the ops' attribute types."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_SIZE = (1 << 31) - 1
"""The largest size of an axis: model formats and runtimes count with 32 bits."""
MOST_BYTES = 1 << 47
"""The largest tensor: what a process can address."""
MOST_AXES = 32
"""The largest rank: numpy's, of every version."""


class _Positive:
    """The positive finite numbers of float32."""

    smallest = float(np.finfo(np.float32).smallest_subnormal)
    largest = float(np.finfo(np.float32).max)

    def __contains__(self, number: float) -> bool:
        return self.smallest <= number <= self.largest

    def __str__(self) -> str:
        return "positive and finite in float32"


FLOAT32 = _Positive()
"""What a scale may be."""


class DType(enum.Enum):
    """Element type of a tensor; the value is its name in the text form.

    Most operations compute with the first five; some move, compare or convert the others too. All
    are carried, so that an operation that we do not compute can still be reported and handed on.
    """

    UINT8 = "u8"
    INT8 = "i8"
    INT16 = "i16"
    INT32 = "i32"
    FLOAT32 = "f32"
    BOOL = "bool"
    INT64 = "i64"
    UINT16 = "u16"
    UINT32 = "u32"
    UINT64 = "u64"
    FLOAT16 = "f16"
    FLOAT64 = "f64"
    COMPLEX64 = "c64"
    OTHER = "other"  # strings, resources, 4-bit types...: no numpy type; opaque bytes

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type; uint8 bytes for OTHER."""
        return np.dtype(_NUMPY.get(self.value, self.value))

    @property
    def is_quantizable(self) -> bool:
        return self in (DType.UINT8, DType.INT8, DType.INT16, DType.INT32)

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type."""
        info = np.iinfo(self.numpy)
        return int(info.min), int(info.max)

    @classmethod
    def of(cls, dtype: npt.DTypeLike) -> DType:
        """Return the element type of a numpy type. Raises KeyError where there is none."""
        return _FROM_NUMPY[np.dtype(dtype)]


_NUMPY = {"bool": "?", "u8": "u1", "i8": "i1", "i16": "i2", "u16": "u2", "i32": "i4", "u32": "u4",
          "i64": "i8", "u64": "u8", "f16": "f2", "f32": "f4", "f64": "f8", "c64": "c8",
          "other": "u1"}  # fmt: skip
_INT64 = (-(1 << 63), (1 << 63) - 1)
_FROM_NUMPY = {d.numpy: d for d in DType if d is not DType.OTHER}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (q - zero_point); scales are float32 values held exactly.

    Per tensor: one scale, one zero point, axis None. Per axis: one pair for each index of `axis`,
    also where all of them are equal (TFLite picks its kernels by the number of scales).
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    @property
    def per_axis(self) -> bool:
        return self.axis is not None

    @property
    def scale(self) -> float:
        """The first (per tensor: the only) scale."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The first (per tensor: the only) zero point."""
        return self.zero_points[0]

    def problem_of(self, dtype: DType, shape: tuple[int, ...]) -> str:
        """Return what is wrong with it for a tensor of this type; "" if nothing is."""
        if bad := [s for s in self.scales if not (isinstance(s, float) and s in FLOAT32)]:
            return f"scale is {bad[0]!r:.40}, must be {FLOAT32}"
        low, high = dtype.range if dtype.is_quantizable else _INT64
        if bad := [z for z in self.zero_points if not (_is_whole(z) and low <= z <= high)]:
            return f"zero point is {bad[0]!r:.40}, must be a whole number from {low} to {high}"
        if len(self.scales) != len(self.zero_points):
            return f"has {len(self.scales)} scales and {len(self.zero_points)} zero points"
        if self.axis is None:
            many = len(self.scales) != 1
            return f"has {len(self.scales)} scales and no axis, must have 1" if many else ""
        if not (_is_whole(self.axis) and 0 <= self.axis < len(shape)):
            return f"axis of the scales is {self.axis!r:.40}, must be one of {len(shape)}"
        if len(self.scales) != shape[self.axis]:
            return (
                f"has {len(self.scales)} scales, must have {shape[self.axis]}, the size of its axis"
            )
        return ""

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quantization:
        with np.errstate(over="ignore"):  # what is beyond float32 is refused with the type
            return cls((float(np.float32(scale)),), (int(zero_point),))


@dataclass(frozen=True)
class TensorType:
    """Element type, shape (any rank, NHWC where the op says so) and quantisation.

    `dynamic`: only computing the tensor tells its shape; `shape` is what the file says. Opaque
    operations alone make and read such tensors.
    """

    dtype: DType
    shape: tuple[int, ...]
    quantization: Quantization | None = None
    dynamic: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.size * self.dtype.numpy.itemsize

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def problem(self) -> str:
        """What no tensor can be: a clause with the value and what it must be; "" for a good type.

        Scales are positive and finite, zero points are values of the element type, sizes are whole
        numbers that the formats and this process can have.
        """
        if bad := [n for n in self.shape if not (_is_whole(n) and 0 <= n <= MOST_SIZE)]:
            return f"size is {bad[0]!r:.40}, must be a whole number from 0 to {MOST_SIZE}"
        if len(self.shape) > MOST_AXES:
            return f"has {len(self.shape)} axes, must have at most {MOST_AXES}"
        if self.size_bytes > MOST_BYTES:
            return f"has {self.size_bytes} bytes, must have at most {MOST_BYTES}"
        return self.quantization.problem_of(self.dtype, self.shape) if self.quantization else ""

    @property
    def scale(self) -> float:
        """The per-tensor scale; 1.0 for a tensor without quantisation."""
        return self.quantization.scale if self.quantization else 1.0

    @property
    def zero_point(self) -> int:
        """The per-tensor zero point; 0 for a tensor without quantisation."""
        return self.quantization.zero_point if self.quantization else 0


def _is_whole(item: object) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


class Activation(enum.Enum):
    """A fused activation as the model file has it; `ir.lower` turns it into an integer clamp."""

    NONE = "none"
    RELU = "relu"
    RELU_N1_TO_1 = "relu_n1_to_1"
    RELU6 = "relu6"
    TANH = "tanh"
    SIGN_BIT = "sign_bit"


@dataclass(frozen=True)
class Padding:
    """Rows and columns of padding on each side, in elements."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def same(
        cls,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> Padding:
        """Return TFLite's SAME padding for (height, width) pairs: the odd one goes after."""
        before_after = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            out = -(-n // s)
            total = max(0, (out - 1) * s + (k - 1) * d + 1 - n)
            before_after += [total // 2, total - total // 2]
        return cls(*before_after)

    def output(
        self,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> tuple[int, int]:
        """Return (height, width) of what a window of this kernel and stride yields."""
        padded = (size[0] + self.top + self.bottom, size[1] + self.left + self.right)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        out = [(p - r) // s + 1 for p, r, s in zip(padded, reach, stride, strict=True)]
        return max(out[0], 0), max(out[1], 0)


NO_PADDING = Padding()
