"""What a tensor is: element type, shape, affine quantisation; and the ops' attribute types."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


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

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quantization:
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

    @property
    def scale(self) -> float:
        """The per-tensor scale; 1.0 for a tensor without quantisation."""
        return self.quantization.scale if self.quantization else 1.0

    @property
    def zero_point(self) -> int:
        """The per-tensor zero point; 0 for a tensor without quantisation."""
        return self.quantization.zero_point if self.quantization else 0


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
