# Ref: docs/hardware/rocket.md §4.4, §4.5, §5, §6.3, §7.2 to §7.4, §9
# Ref: Mesa 26.2.6, src/gallium/drivers/rocket (behaviour; nothing was copied)
"""Strategy `mesa`: what Mesa 26.2.6 programs, mistakes included, to compare with recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D
from teflon.ir.types import Activation, Array, DType
from teflon_rocket.chips import Chip
from teflon_rocket.coefs import wrap32, zero_point_correction
from teflon_rocket.operation import Feature, Numbers, Operand, Operation

_TRUNCATED_SCALES = frozenset(
    {
        0x3A88323F, 0x3A9A5956, 0x3C0060DE, 0x3C06022D, 0x3C1642E3, 0x3C1E3F51, 0x3C5C8AA8,
        0x3C615E93, 0x3C7326A2, 0x3C783013, 0x3CAEBC56, 0x3D1748E6, 0x3D282992, 0x3D2E87AE,
        0x3D77F5F6,
    }
)  # fmt: skip
"""Weight scales (float32 bits) for which Mesa drops one bit of the accumulator."""

_ACTIVATIONS = (
    Activation.NONE,
    Activation.RELU,
    Activation.RELU6,
    Activation.RELU_N1_TO_1,
)


def reasons(op: Op) -> list[str]:
    """Return why Mesa's driver would leave an operation alone; it checks very little."""
    if isinstance(op, Add):
        constant = op.a.is_constant or op.b.is_constant
        return ["Mesa adds only tensors that are computed"] if constant else []
    if not isinstance(op, Conv2D | DepthwiseConv2D):
        return ["Mesa's rocket driver runs only CONV_2D, DEPTHWISE_CONV_2D and ADD"]
    found = []
    if any(_differs_per_axis(v) for v in (*op.inputs_present, op.output)):
        found.append("Mesa wants one scale and one zero point per tensor")
    if op.dilation != (1, 1):
        found.append(f"Mesa wants no dilation (dilation is {op.dilation})")
    if op.activation not in _ACTIVATIONS:
        found.append(f"Mesa knows no fused {op.activation.value.upper()}")
    return found


def doubts(op: Op) -> list[str]:
    """Return what is known to come out wrong of an operation that Mesa takes.

    Only what it shows by itself: not a clamp before an addition, nor the pad value of odd channels.
    """
    maps = [v for v in (*op.inputs_present[:2], *op.results) if not v.is_constant]
    found = []
    if any(v.type.dtype is DType.INT8 for v in maps):
        found.append("int8 is taken for uint8")
    if isinstance(op, Add) and op.output.shape[-1] == 1:
        found.append("one channel at an addition is scaled by 0.988")
    if isinstance(op, Conv2D | DepthwiseConv2D):
        height, width = op.weights.shape[1:3]
        sides = {v.shape[1] == v.shape[2] for v in maps} | {height == width}
        if False in sides and max(height, width) > 1:
            found.append("height and width are exchanged")
        if op.stride[0] != op.stride[1]:
            found.append(f"stride {op.stride} is taken for one number")
        if op.input.shape[3] == op.output.shape[3] == 1:
            found.append("a map of one channel in and out is never uploaded")
    return [f"{text} (strategy exact computes it right)" for text in found]


def veto(graph: Graph) -> dict[Op, str]:
    """Return operations that Mesa accepts and then cannot compile."""
    made: set[Value] = set()
    refused: dict[Op, str] = {}
    for op in graph.ops:
        problem = _shape_problem(op)
        if isinstance(op, Add) and not _is_hosted(op, graph, made):
            problem = "Mesa crashes: no convolution of the partition makes the first operand"
        elif isinstance(op, Conv2D | DepthwiseConv2D) and not problem:
            problem = _convolution_problem(op)
        if problem:
            refused[op] = problem
        made.update(op.results)
    return refused


def _shape_problem(op: Op) -> str:
    """Why feature maps are not what Mesa takes them for."""
    maps = (op.a, op.b, op.output) if isinstance(op, Add) else (op.operands[0], op.results[0])
    shapes = [v.shape for v in maps if v is not None]
    if any(v is None or v.type.dtype not in (DType.UINT8, DType.INT8) for v in maps):
        return "Mesa takes every tensor for one of bytes"
    if any(len(s) != 4 for s in shapes) or (isinstance(op, Add) and len(set(shapes)) > 1):
        return f"Mesa takes every tensor for a map of four axes, shapes are {shapes}"
    images = shapes[0][0]
    return "" if images == 1 else f"Mesa computes only the first of {images} images"


def _convolution_problem(op: Conv2D | DepthwiseConv2D) -> str:
    """Why a convolution's constants are not what Mesa takes them for."""
    if op.bias is None or op.bias.data is None:
        return "Mesa reads the bias of a convolution that has none"
    channels, results = op.input.shape[3], op.output.shape[3]
    if isinstance(op, DepthwiseConv2D) and channels not in (1, results):
        return f"Mesa takes the depth multiplier {results // channels} for 1"
    if isinstance(op, Conv2D) and op.weights.shape[3] != channels:
        return "Mesa takes a grouped convolution for one of all channels"
    return "" if op.weights.data is not None else "Mesa takes computed weights for constant ones"


def _is_hosted(add: Add, graph: Graph, made: set[Value]) -> bool:
    producer = graph.producer(add.a)
    known = any(add.b in u.inputs_present for u in graph.ops if not isinstance(u, Add))
    return isinstance(producer, Conv2D | DepthwiseConv2D) and (add.b in made or known)


def _differs_per_axis(value: Value) -> bool:
    q = value.type.quantization
    if q is None:
        return False
    return len(set(q.scales)) > 1 or len(set(q.zero_points)) > 1


@dataclass
class _Draft:
    """A convolution while additions are being folded into it."""

    op: Conv2D | DepthwiseConv2D
    result: Value
    scaled_by: Value  # whose quantisation the output takes
    operand: Value | None = None
    feeds_addition: bool = False


def lower(graph: Graph, _chip: Chip) -> tuple[Operation, ...]:
    """Return Mesa's operations. Raises UnsupportedOperation where Mesa would crash."""
    for op, reason in veto(graph).items():
        raise UnsupportedOperation(op.title, [reason])
    drafts: list[_Draft] = []
    for op in graph.ops:
        if isinstance(op, Add):
            _host(op, drafts)
        elif isinstance(op, Conv2D | DepthwiseConv2D):
            drafts.append(_Draft(op, op.output, op.output))
        else:
            raise UnsupportedOperation(op.title, reasons(op))
    features = _features(graph, drafts)
    return tuple(_operation(d, features) for d in drafts)


def _host(add: Add, drafts: list[_Draft]) -> None:
    """Let the convolution that makes the first operand add the second."""
    by_result = {d.result: d for d in drafts}
    host = by_result[add.a]
    host.operand, host.result, host.scaled_by = add.b, add.output, add.output
    if add.b in by_result:
        by_result[add.b].feeds_addition = True


def _features(graph: Graph, drafts: list[_Draft]) -> dict[Value, Feature]:
    """Return a feature map per tensor; graph inputs are converted for their first reader."""
    found: dict[Value, Feature] = {}
    for draft in drafts:
        for value in (draft.op.input, draft.result, draft.operand):
            if value is None or value in found:
                continue
            _, outer, inner, channels = value.shape
            zero = value.type.zero_point & 0xFF
            feature = Feature(
                value.name, (1, outer, inner, channels), value, "surfaces", 0x80, zero ^ 0x80
            )
            if channels == 1 and value in graph.inputs and value is draft.op.input:
                rows = draft.result.shape[3] > 1 or _adds(draft)
                layout = "rows" if rows else "unset"
                feature = dataclasses.replace(feature, layout=layout, flip=0, fill=zero)
            found[value] = feature
    return found


def _adds(draft: _Draft) -> bool:
    return draft.operand is not None or draft.feeds_addition


def _operation(draft: _Draft, features: Mapping[Value, Feature]) -> Operation:
    op = draft.op
    source, result = features[op.input], features[draft.result]
    _, width, height, channels = source.shape  # Mesa's names: the outer axis is the width
    _, out_width, out_height, out_channels = result.shape
    depthwise = isinstance(op, DepthwiseConv2D) and channels > 1 and out_channels > 1
    kernel = (op.weights.shape[1], op.weights.shape[2])
    raw = _raw(op.weights).reshape(-1)
    taps = kernel[0] * kernel[1]
    shape = (1, taps, channels) if depthwise else (out_channels, taps, channels)
    weights = raw[: taps * channels * shape[0]].reshape(shape)
    truncate = int(_bits(op.weights.type.scale) in _TRUNCATED_SCALES)
    pads = op.padding
    operation = Operation(
        name=op.where, input=source, output=result, width=width, height=height, channels=channels,
        out_width=out_width, out_height=out_height, out_channels=out_channels, kernel=kernel,
        stride=(op.stride[1], op.stride[1]),
        pads=(pads.left, pads.right, pads.top, pads.bottom), depthwise=depthwise,
        weights=weights, weight_zero=op.weights.type.zero_point & 0xFF,
        bias=_biases(op, weights, depthwise, truncate),
        numbers=_numbers(draft, depthwise, kernel, truncate),
        operand=_operand(draft, features), feeds_addition=draft.feeds_addition,
        one_channel=channels == 1,
        row_input=channels == 1 and (out_channels > 1 or _adds(draft)),
        by_pitch=False, macs=op.macs,
    )  # fmt: skip
    return dataclasses.replace(operation, row_entries=_entries(operation))


def _raw(value: Value) -> Array:
    assert value.data is not None  # `reasons` and the reader see to it
    return np.ascontiguousarray(value.data).view(np.uint8)


def _biases(op: Conv2D | DepthwiseConv2D, weights: Array, depthwise: bool, truncate: int) -> Array:
    assert op.bias is not None  # see `veto`
    assert op.bias.data is not None
    full = zero_point_correction(
        weights, op.weights.type.zero_point, op.input.type.zero_point, depthwise
    )
    wrapped = wrap32(op.bias.data.astype(np.int64) - full)
    if not truncate:
        return wrapped
    halves: Array = np.trunc(wrapped.astype(np.float64) / 2**truncate).astype(np.int32)
    return halves  # truncated toward zero, as C divides


def _numbers(draft: _Draft, depthwise: bool, kernel: tuple[int, int], truncate: int) -> Numbers:
    op = draft.op
    out = draft.scaled_by.type
    real = np.float32(op.input.type.scale) * np.float32(op.weights.type.scale)
    bits = _bits(np.float32(real / np.float32(out.scale)))
    scale = ((bits >> 9) & 0x7FFF) + 1
    shift = 142 - (bits >> 23) - int(truncate > 0)
    adds = _adds(draft)
    return Numbers(
        weight_offset=128 - (op.weights.type.zero_point & 0xFF),
        pad=_pad_value(op.input.type.zero_point & 0xFF, kernel[0], adds, depthwise),
        output_offset=(out.zero_point & 0xFF) - 128,
        output_scale=scale | 0x4000 if scale < 0x4000 else scale,
        output_shift=shift - 1,
        truncate=truncate,
        input_scale=32388 if adds else 16384,
        input_shift=15 if adds else 14,
    )


def _pad_value(zero: int, kernel_width: int, adds: bool, depthwise: bool) -> int:
    if depthwise and zero == 0x8B:
        return 0x0B0B
    if adds:
        return 0xFFFFFF80
    if kernel_width >= 3 and zero == 0:
        return 0xFFFF8080
    return (zero - 128) & 0xFFFFFFFF


def _operand(draft: _Draft, features: Mapping[Value, Feature]) -> Operand | None:
    if draft.operand is None:
        return None
    op, other = draft.op, draft.operand.type
    unit = np.float32(op.input.type.scale) * np.float32(op.weights.type.scale)
    bits = _bits(np.float32(np.float32(other.scale) / unit))
    scale = (bits >> 9) & 0x7FFF
    return Operand(
        feature=features[draft.operand],
        offset=128 - other.zero_point,
        scale=scale | 0x4000 if scale < 0x4000 else scale,
        shift=(141 - (bits >> 23)) & 0x3F,
    )


def _entries(op: Operation) -> int:
    width = op.fetched_width(op.width)
    if op.channels == 1:
        return width * op.height
    if width == 40 and op.channels == 40:
        return 40
    return -(-width * 2 * op.atoms // 8)


def _bits(real: float | np.float32) -> int:
    return int(np.float32(real).view(np.uint32))
