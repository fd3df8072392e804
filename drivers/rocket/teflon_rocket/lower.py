# Ref: docs/hardware/rocket.md §5.3 (additions), §6.2, §10
"""Strategy `exact`: a graph to operations that compute what the graph says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from teflon.errors import LimitExceeded, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.types import NO_PADDING, Array, DType
from teflon_common.layout import image_shape
from teflon_common.quantize import Multiplier
from teflon_rocket.checks import CHECKS
from teflon_rocket.chips import Chip
from teflon_rocket.coefs import wrap32, zero_point_correction
from teflon_rocket.drafts import Draft, clamp_of, draft, identity
from teflon_rocket.operation import Clamps, Feature, Numbers, Operand, Operation
from teflon_rocket.scales import (
    Affine,
    Bounds,
    Window,
    bounds,
    early_clamps,
    operand_multiplier,
    output_multiplier,
    output_window,
    pad_word,
    threshold_high,
)
from teflon_rocket.tasks import Split, split_exact

_FUSED_STEP = 1.8
"""Largest scale of a fused convolution's own result over that of the sum: not rounding it in
between moves the sum by half of this at most."""
_FUSED_UNIT = 0.125
"""Largest accumulator unit of a fused convolution in steps of the sum: the operand is rounded to
accumulator units."""
_SHIFTED_UNIT = 0.25
"""Largest accumulator unit in steps of a sum whose lower limit is not its zero point: the limit is
rounded to accumulator units."""
_GROUP = 16  # kernels of one operation where not even a group of 32 fits


def reasons(op: Op, chip: Chip) -> list[str]:
    """Return why an operation cannot run; empty where it can."""
    if not isinstance(op, CHECKS.ops):
        return ["the RK3588 driver runs CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and ADD"]
    found = CHECKS.reasons(op)
    if found:
        return found
    alone = Graph("", tuple(v for v in op.inputs_present if not v.is_constant), op.results, (op,))
    try:
        lower(alone, chip, bias=False)
    except LimitExceeded as error:
        return [str(error).removeprefix(f"{op.where}: ")]
    return []


def lower(graph: Graph, chip: Chip, bias: bool = True) -> tuple[list[Operation], list[Split]]:
    """Return the operations of a graph and how they are split; without `bias` for planning only.

    Raises UnsupportedOperation for an operation that breaks a check, LimitExceeded where the
    numbers of one cannot be expressed.
    """
    drafts = _drafts(graph)
    operands = {d.operand for d in drafts if d.operand is not None}
    for wide in (drafts, _with_surfaces(drafts)):  # where rows of bytes cannot be read
        found = [pair for d in wide for pair in _split(d, d.output in operands, chip, bias)]
        if all(split is not None for _, split in found):
            return [op for op, _ in found], [s for _, s in found if s is not None]
    op = next(op for op, split in found if split is None)
    raise LimitExceeded(
        f"{op.name}: {op.kernel[1]} rows of {op.channels} channels, or the weights of"
        f" {_GROUP} kernels, do not fit the convolution buffer of {chip.cbuf_bytes} bytes"
    )


# Graph to drafts ------------------------------------------------------------------------------


def _drafts(graph: Graph) -> list[Draft]:
    features = _features(graph)
    hosts = _hosts(graph)
    drafts: list[Draft] = []
    for op in graph.ops:
        if broken := CHECKS.reasons(op) if isinstance(op, CHECKS.ops) else ["is not known"]:
            raise UnsupportedOperation(op.title, broken)
        if isinstance(op, Add):
            drafts += _addition(op, hosts, features)
        elif op not in hosts.values():
            drafts += _plain(op, features)
    return drafts


def _plain(op: Op, features: dict[Value, Feature]) -> list[Draft]:
    assert isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected)  # CHECKS know only these
    return draft(op, features[op.input], features[op.output])


def _features(graph: Graph) -> dict[Value, Feature]:
    """Return a feature map per tensor; one-channel inputs of convolutions are kept as rows."""
    found: dict[Value, Feature] = {}
    for value in graph.values:
        if value.is_constant or value in found:
            continue
        flip = 0x80 if value.type.dtype is DType.UINT8 else 0
        zero = Affine.of(value.type).zero & 0xFF
        shape = image_shape(value.shape)
        feature = Feature(value.name, shape, value, "surfaces", flip, zero ^ 0x80)
        if shape[3] == 1 and value in graph.inputs and not graph.is_output(value):
            users = graph.users(value)
            if users and all(isinstance(u, Conv2D | DepthwiseConv2D) for u in users):
                feature = dataclasses.replace(feature, layout="rows", flip=flip ^ 0x80, fill=zero)
        found[value] = feature
    return found


def _with_surfaces(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts with one-channel inputs as surfaces instead of rows."""
    replaced = {
        feature: dataclasses.replace(
            feature, layout="surfaces", flip=feature.flip ^ 0x80, fill=feature.fill ^ 0x80
        )
        for feature in {d.input for d in drafts if d.input.layout == "rows"}
    }
    return [dataclasses.replace(d, input=replaced.get(d.input, d.input)) for d in drafts]


def _hosts(graph: Graph) -> dict[Add, Op]:
    """Return the convolution into which each addition can be fused: the first operand's where
    possible, as Mesa does, else the second's.
    """
    hosts: dict[Add, Op] = {}
    for op in graph.ops:
        if not isinstance(op, Add) or op.a is op.b or CHECKS.reasons(op):
            continue
        for mine, other in ((op.a, op.b), (op.b, op.a)):
            producer = graph.producer(mine)
            if producer is not None and _can_host(graph, op, producer, mine, other):
                hosts[op] = producer
                break
    return hosts


def _can_host(graph: Graph, add: Add, host: Op, mine: Value, other: Value) -> bool:
    """Whether nothing else needs the convolution's own result, and the sum stays within a step."""
    if not isinstance(host, Conv2D | DepthwiseConv2D | FullyConnected):
        return False
    if graph.users(mine) != (add,) or graph.is_output(mine) or CHECKS.reasons(host):
        return False
    unit = host.input.type.scale * host.weights.type.scale
    total = add.output.type
    operand = operand_multiplier(other.type.scale / unit)
    return (
        mine.type.scale <= _FUSED_STEP * total.scale
        and unit <= _FUSED_UNIT * total.scale
        and operand is not None
        and 255 * other.type.scale / unit < 2**29
    )


def _addition(add: Add, hosts: dict[Add, Op], features: dict[Value, Feature]) -> list[Draft]:
    host = hosts.get(add)
    if host is None:
        # The converter takes the other operand to accumulator units: at most 2^15 times.
        swap = add.b.type.scale > add.a.type.scale * 128
        mine, other = (add.b, add.a) if swap else (add.a, add.b)
        chain = [identity(add.where, features[mine], mine.type)]
    else:
        other = add.b if host is not None and host.results[0] is add.a else add.a
        chain = _plain(host, features)
    last = chain[-1]
    return [
        *chain[:-1],
        dataclasses.replace(
            last,
            output=features[add.output],
            operand=features[other],
            operand_affine=Affine.of(other.type),
            sum=Affine.of(add.output.type),
            sum_clamp=clamp_of(add),
        ),
    ]


# Drafts to operations -------------------------------------------------------------------------


def _split(
    one: Draft, feeds_addition: bool, chip: Chip, bias: bool
) -> Iterator[tuple[Operation, Split | None]]:
    """Yield the operation of a draft; several where the weights fill more than the buffer."""
    op = _operation(one, feeds_addition, bias)
    split = split_exact(op, chip)
    if split is not None or op.depthwise or op.out_channels <= _GROUP:
        yield op, split
        return
    for first in range(0, op.out_channels, _GROUP):
        some = slice(first, min(first + _GROUP, op.out_channels))
        part = dataclasses.replace(
            op,
            weights=op.weights[some],
            bias=op.bias[some],
            out_channels=some.stop - some.start,
            surface=first // _GROUP,
            macs=op.macs * (some.stop - some.start) // op.out_channels,
        )
        yield part, split_exact(part, chip)


def _operation(one: Draft, feeds_addition: bool, bias: bool) -> Operation:
    _, height, width, channels = one.in_shape
    _, out_height, out_width, out_channels = one.out_shape
    numbers = _numbers(one)
    pads, rows = one.padding, one.input.layout == "rows"
    return Operation(
        name=one.name, input=one.input, output=one.output, width=width, height=height,
        channels=channels, out_width=out_width, out_height=out_height,
        out_channels=out_channels, kernel=(one.kernel[1], one.kernel[0]),
        stride=(one.stride[1], one.stride[0]),
        pads=(pads.left, pads.right, pads.top, pads.bottom), depthwise=one.depthwise,
        weights=one.weights, weight_zero=one.weight_affine.zero,
        bias=_bias(one, numbers.clamps.origin) if bias else one.bias, numbers=numbers,
        operand=_operand(one), feeds_addition=feeds_addition, one_channel=rows, row_input=rows,
        macs=one.macs,
    )  # fmt: skip


def _bias(one: Draft, origin: int) -> Array:
    correction = zero_point_correction(
        one.weights, one.weight_affine.zero, one.source.zero, one.depthwise
    )
    return wrap32(one.bias - correction - origin)


def _numbers(one: Draft) -> Numbers:
    written = one.sum or one.result
    factor = output_multiplier(one.unit / written.scale, one.name)
    if one.sum is None:
        clamps, zero = _plain_clamps(one, factor), written.zero
    else:
        clamps, zero = _sum_clamps(one, one.sum, factor)
    return Numbers(
        weight_offset=128 - one.weight_affine.zero,
        pad=_pad(one),
        output_offset=zero - 128,
        output_scale=factor.multiplier,
        output_shift=factor.shift,
        clamps=clamps,
    )


def _pad(one: Draft) -> int:
    large = one.kernel[0] >= 3 and one.source.zero == 0  # Mesa writes it twice then
    return pad_word(one.source.zero, one.padding != NO_PADDING or large)


def _plain_clamps(one: Draft, factor: Multiplier) -> Clamps:
    """Return the limits of a convolution's own result."""
    if one.clamp == (0, 255):
        return Clamps()
    window = output_window(factor, one.result.zero, one.clamp, one.name)
    return early_clamps(window, _reach(one), one.name)


def _sum_clamps(one: Draft, total: Affine, factor: Multiplier) -> tuple[Clamps, int]:
    """Return the limits before and behind a fused addition, and what accumulator 0 becomes.

    Before: the range that the convolution's own result would have had.
    """
    early = Clamps()
    if one.result is not one.source:  # an identity is within its range already
        steps = one.result.scale / one.unit
        edges = [round((q - one.result.zero) * steps) for q in one.clamp]
        early = early_clamps(Window(*edges), _reach(one), one.name)
    low, high = one.sum_clamp
    if (low, high) == (0, 255):
        return early, total.zero
    if low != total.zero and factor.real > _SHIFTED_UNIT:
        raise LimitExceeded(
            f"{one.name}: accumulator unit is {factor.real:g} steps of the sum, must be at most"
            f" {_SHIFTED_UNIT} for a clamp other than at the zero point"
        )
    origin = 0 if low == total.zero else round((low - total.zero) / factor.real)
    ceiling = None if high >= 255 else threshold_high(factor, high - low)
    late = dataclasses.replace(
        early, shift=early.shift - origin, late_relu=True, late_ceiling=ceiling
    )
    return late, low


def _reach(one: Draft) -> Bounds:
    return bounds(one.weights, one.weight_affine.zero, one.source, one.bias, one.depthwise)


def _operand(one: Draft) -> Operand | None:
    if one.operand is None or one.operand_affine is None:
        return None
    factor = operand_multiplier(one.operand_affine.scale / one.unit)
    if factor is None:
        raise LimitExceeded(
            f"{one.name}: operand scale is {one.operand_affine.scale:g}, its ratio to the"
            f" accumulator's {one.unit:g} must be between 2^-48 and 2^15"
        )
    return Operand(one.operand, 128 - one.operand_affine.zero, factor.multiplier, factor.shift)
