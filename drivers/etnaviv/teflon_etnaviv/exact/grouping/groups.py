"""How a layer is cut into jobs: which channels a job has, and in which order they come to lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from teflon.ir.graph import Op
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected
from teflon_etnaviv.exact.grouping import cutting
from teflon_etnaviv.exact.grouping.choice import Price, price_of, reordering
from teflon_etnaviv.exact.grouping.expected import times
from teflon_etnaviv.exact.grouping.kernels import (
    F64,
    Kernels,
    Order,
    Weighted,
    per_channel,
)
from teflon_etnaviv.exact.grouping.orders import is_free
from teflon_etnaviv.exact.grouping.pieces import Group
from teflon_etnaviv.grouped import Grouped
from teflon_etnaviv.tensors import Layout, Tensor

if TYPE_CHECKING:
    from teflon_etnaviv.exact.lowering import Lowering


@dataclass(frozen=True, eq=False)
class Cut:
    """A layer's groups; none where it is one job that needs no change.

    source: its input in planes; inputs, outputs: the channel that lies in each plane of input and
    output, None where all lie in their own.
    """

    source: Tensor
    groups: Sequence[Group] = ()
    inputs: Order | None = None
    outputs: Order | None = None


def of_convolution(op: Conv2D | DepthwiseConv2D, state: Lowering) -> Cut:
    """Return the groups of a convolution; its input is sorted first where that pays."""
    source, inputs = state.planes(op.input)
    if isinstance(op, DepthwiseConv2D) and op.input.shape[3] > 1:
        return _of_depthwise(op, source, inputs, state)
    following = _following(op, state)
    if not per_channel(op) and inputs is None and following is None:
        return Cut(source)
    kernels = state.expected.kernels(op)
    found = _sorted(op, kernels, following, state)
    return Cut(source, _groups(op, kernels, found, state), inputs, found.order)


def of_fully_connected(op: FullyConnected, state: Lowering) -> Cut:
    """Return the groups of a fully connected layer."""
    source, inputs = state.flat(op.input)
    if not per_channel(op) and inputs is None:
        return Cut(source)
    kernels = state.expected.kernels(op)
    found = _sorted(op, kernels, None, state)
    return Cut(source, _groups(op, kernels, found, state), inputs, found.order)


def _of_depthwise(
    op: DepthwiseConv2D, source: Tensor, inputs: Order | None, state: Lowering
) -> Cut:
    """Cut the planes as they lie, or sort them before."""
    if op.output.shape[3] != op.input.shape[3]:  # one scale, several kernels for each channel
        return Cut(state.get(op.input, Layout.PLANES))
    if not per_channel(op) and inputs is None:
        return Cut(source)
    kernels = state.expected.kernels(op)
    order = np.arange(kernels.channels) if inputs is None else inputs
    sorted_ = _cheapest(op, kernels, [order, cutting.by_scale(kernels.scales)], state)
    if sorted_.order is not order:
        target = source.like(f"{op.input.name} (sorted)")
        state.reordered(op.input.name, source, np.argsort(order)[sorted_.order], target)
        source = target
    groups = _groups(op, kernels, sorted_, state)
    return Cut(source, groups, sorted_.order, sorted_.order)


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Output channels in the order of their planes, and the parts that are groups."""

    order: Order
    parts: Sequence[slice]


def _cheapest(op: Weighted, kernels: Kernels, orders: Sequence[Order], state: Lowering) -> _Sorted:
    """Return the cheapest of orders; all but the first one cost a job that brings planes into
    another order: those of the result, of a depthwise layer those of the input.
    """
    price = _price(op, state)
    value = op.input if isinstance(op, DepthwiseConv2D) else op.output
    moved = reordering(value.type.size, kernels.channels, state.chip)
    found, least = _Sorted(orders[0], ()), math.inf
    for number, order in enumerate(orders):
        scales = kernels.scales[order]
        parts = state.mode.cut(op, scales, price)
        cost = price.cost(scales, parts) + (number > 0) * moved / price.whole(len(scales))
        if cost < least:
            found, least = _Sorted(order, parts), cost
    return found


def _following(op: Op, state: Lowering) -> F64 | None:
    """Return the scales of the depthwise layer that alone reads a result, if it has several."""
    value = op.results[0]
    users = state.graph.users(value)
    if state.graph.is_output(value) or len(users) != 1:
        return None
    user = users[0]
    if not isinstance(user, DepthwiseConv2D) or user.output.shape[3] != value.shape[3]:
        return None
    return state.expected.kernels(user).scales if per_channel(user) else None


def _sorted(op: Weighted, kernels: Kernels, following: F64 | None, state: Lowering) -> _Sorted:
    """Return the order of a layer's output channels, and its groups."""
    natural, order = np.arange(kernels.channels), cutting.by_scale(kernels.scales)
    if following is None and not is_free(op.output, state.graph):
        return _cheapest(op, kernels, [natural, order], state)
    parts = state.mode.cut(op, kernels.scales[order], _price(op, state))
    if following is not None:
        return _Sorted(cutting.for_both(kernels.scales, parts, following), parts)
    return _Sorted(order if len(parts) > 1 else natural, parts)


def _groups(op: Weighted, kernels: Kernels, found: _Sorted, state: Lowering) -> list[Group]:
    parts = [found.order[part] for part in found.parts]
    groups = [Group(channels, state.mode.rounded(kernels, channels)) for channels in parts]
    if state.mode.adapts:
        groups = [_corrected(op, kernels, group, state) for group in groups]
    if per_channel(op):
        state.grouped.append(_told(op, groups))
    return groups


def _corrected(op: Weighted, kernels: Kernels, group: Group, state: Lowering) -> Group:
    """Return a group with biases less what the errors of weights are expected to add up to."""
    made, channels = group.kernels, group.channels
    if not made.noise.any():
        return group
    wanted = state.expected.sums(op)[channels] * kernels.scales[channels] / made.scale
    means = state.expected.inputs(op).mean
    if isinstance(op, DepthwiseConv2D) and len(means) > 1:
        means = means[channels]
    weights = made.bytes_.astype(np.float32) - np.float32(made.zero)
    return replace(group, kernels=made.moved(wanted - times(op, weights, means)))


def _price(op: Weighted, state: Lowering) -> Price:
    return price_of(op, state.chip, state.expected.square(op))


def _told(op: Weighted, groups: Sequence[Group]) -> Grouped:
    """Return what reports say about a layer."""
    squares = [group.kernels.scale**2 for group in groups]
    powers = list(zip(squares, groups, strict=True))
    signal = np.concatenate([square * group.kernels.signal for square, group in powers])
    noise = np.concatenate([square * group.kernels.noise for square, group in powers])
    some = (signal > 0) & (noise > 0)
    worst = float((signal[some] / noise[some]).min()) if some.any() else math.inf
    whole = float(signal.sum() / noise.sum()) if noise.any() else math.inf
    title = f"{op.kind_name} {op.where.split(';')[0]!r}"  # converters join names of all they fused
    return Grouped(title, len(signal), len(groups), _decibels(whole), _decibels(worst))


def _decibels(ratio: float) -> float:
    return 10 * math.log10(ratio) if 0 < ratio < math.inf else ratio
