"""What a TFLite runtime is asked, and what it is not asked because it would end the process."""

from __future__ import annotations

from collections.abc import Iterable

from teflon.errors import DriverUnavailable
from teflon.ir.graph import Op, Value
from teflon.ir.held import is_held
from teflon.ir.ops import Opaque
from teflon.ir.types import DType
from teflon_common.hosted.device import HostedDevice
from teflon_common.hosted.host import Host
from teflon_common.hosted.options import thread_count
from teflon_tflite.runtimes import CURE, MISSING, found

SCALES = (1e-9, 1e9)
RATIO = 2.0**12
"""Scales beyond these limits, or further apart in one operation, are tried in another process.

Ref: LiteRT, tflite/kernels/internal/quantization_util.cc, QuantizeMultiplierSmallerThanOneExp: the
process is ended if a multiplier is not between 0 and 1. ADD and SUB divide scales that are up to
2 ** 15 apart (int16) or 2 ** 20 (int8); tensors without scale count as 0 / 0.
"""

_BLOCKS = "BlockwiseQuantization"
"""How the reader names the quantisation that a tensor has."""
_KNOWS_BLOCKS = "ai_edge_litert"
"""The only runtime that reads it; tflite-runtime 2.14 computes zeros without a word (measured)."""
_SMALL = (DType.UINT8, DType.INT8, DType.INT16)
_CONVOLUTIONS = ("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


class TfliteDevice(HostedDevice):
    """Takes what an installed TFLite runtime runs."""

    driver = "tflite"
    chip = "tflite"
    form = "tflite"
    format_name = "a .tflite"
    version = "2"

    def runtime(self) -> str:
        return found()

    def host(self) -> Host:
        from teflon_tflite.host import TfliteHost

        if not found():
            raise DriverUnavailable(f"{MISSING} ({CURE})")
        return TfliteHost(found(), fast=self.known, threads=thread_count(self.options))

    def refusal(self, op: Op) -> str:
        """Return why the runtime would damage the process, or compute nonsense without a word."""
        if op.kind_name == "SVDF" and _is_narrow_svdf(op):
            return "TFLite keeps the state of an int8 SVDF in int16, this file in int8"
        if op.kind_name in _CONVOLUTIONS and "has type INT2" in op.refusal:
            return "TFLite has no convolution with INT2 weights and reads past their end"
        if isinstance(op, Opaque) and _BLOCKS in op.reason and found() != _KNOWS_BLOCKS:
            return (
                f"{found()} takes weights with a scale for each block for weights without scale"
                f" (pip install {_KNOWS_BLOCKS.replace('_', '-')})"
            )
        return ""

    def untried(self, op: Op) -> bool:
        return isinstance(op, Opaque) and op.kind in _VARIABLES

    def odd(self, ops: Iterable[Op]) -> bool:
        return any(_is_odd(op) for op in ops)


def _is_narrow_svdf(op: Op) -> bool:
    """Ref: LiteRT, tflite/kernels/svdf.cc, Eval: with int8 weights of features and int8 inputs, the
    weights of time and the state are read and written as int16, whatever type they have.
    """
    kinds = [None if v is None else v.type.dtype for v in op.operands]
    return kinds[:1] == [DType.INT8] and DType.INT8 in (*kinds[2:3], *kinds[4:5])


def _is_odd(op: Op) -> bool:
    values = [v for v in (*op.inputs_present, *op.results) if not is_held(v)]
    if any(v.type.dtype is DType.OTHER for v in values):
        return True
    scales = [s for v in values if v.type.dtype in _SMALL for s in _scales(v)]
    if not scales:
        return False
    return min(scales) < SCALES[0] or max(scales) > SCALES[1] or max(scales) > RATIO * min(scales)


def _scales(value: Value) -> tuple[float, ...]:
    """Return the scales of a tensor with 8 or 16 bits; 0 for one without."""
    quantization = value.type.quantization
    return (0.0,) if quantization is None else quantization.scales
