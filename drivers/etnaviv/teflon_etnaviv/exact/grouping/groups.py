"""How a layer is cut into jobs: which channels a job has, and in which order they come to lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from teflon.ir.graph import Op
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected
from teflon_etnaviv.exact.grouping import cutting
from teflon_etnaviv.exact.grouping.choice import jobs_for_reordering
from teflon_etnaviv.exact.grouping.kernels import (
    F64,
    Kernels,
    Order,
    Weighted,
    kernels_of,
    per_channel,
)
from teflon_etnaviv.exact.grouping.modes import Mode
from teflon_etnaviv.exact.grouping.pieces import Group
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
    kernels = kernels_of(op)
    order, parts = _sorted(op, kernels, following, state)
    groups = _groups(kernels, order, parts, state.mode)
    return Cut(source, groups, inputs, order)


def of_fully_connected(op: FullyConnected, source: Tensor, state: Lowering) -> Cut:
    """Return the groups of a fully connected layer."""
    if not per_channel(op):
        return Cut(source)
    kernels = kernels_of(op)
    order, parts = _sorted(op, kernels, None, state)
    return Cut(source, _groups(kernels, order, parts, state.mode), None, order)


def _of_depthwise(
    op: DepthwiseConv2D, source: Tensor, inputs: Order | None, state: Lowering
) -> Cut:
    """Cut the planes as they lie, or sort them before."""
    if op.output.shape[3] != op.input.shape[3]:  # one scale, several kernels for each channel
        return Cut(state.get(op.input, Layout.PLANES))
    if not per_channel(op) and inputs is None:
        return Cut(source)
    kernels = kernels_of(op)
    order = np.arange(kernels.channels) if inputs is None else inputs
    parts = state.mode.cut(op, kernels.scales[order], state.chip)
    by_scale = cutting.by_scale(kernels.scales)
    fewest = state.mode.cut(op, kernels.scales[by_scale], state.chip)
    if len(parts) > len(fewest) + jobs_for_reordering(source, state.chip):
        target = source.like(f"{op.input.name} (sorted)")
        state.reordered(op.input.name, source, np.argsort(order)[by_scale], target)
        source, order, parts = target, by_scale, fewest
    return Cut(source, _groups(kernels, order, parts, state.mode), order, order)


def _following(op: Op, state: Lowering) -> F64 | None:
    """Return the scales of the depthwise layer that alone reads a result, if it has several."""
    value = op.results[0]
    users = state.graph.users(value)
    if state.graph.is_output(value) or len(users) != 1:
        return None
    user = users[0]
    if not isinstance(user, DepthwiseConv2D) or user.output.shape[3] != value.shape[3]:
        return None
    return kernels_of(user).scales if per_channel(user) else None


def _sorted(
    op: Weighted, kernels: Kernels, following: F64 | None, state: Lowering
) -> tuple[Order, list[slice]]:
    """Return an order of the output channels, and the parts that are groups."""
    order = cutting.by_scale(kernels.scales)
    parts = state.mode.cut(op, kernels.scales[order], state.chip)
    if following is not None:
        return cutting.for_both(kernels.scales, parts, following), parts
    return (order, parts) if len(parts) > 1 else (np.arange(kernels.channels), parts)


def _groups(kernels: Kernels, order: Order, parts: Sequence[slice], mode: Mode) -> list[Group]:
    return [Group(order[part], mode.rounded(kernels, order[part])) for part in parts]
