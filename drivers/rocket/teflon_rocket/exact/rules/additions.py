# Ref: docs/hardware/rocket.md §5.3, §10.2
"""Additions: limits and lowering. The DPU adds to what a convolution makes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.layers import Addition, clamp_of, layers
from teflon_rocket.exact.partial import is_whole
from teflon_rocket.exact.rules.elementwise import pair
from teflon_rocket.exact.scales import Affine, operand_multiplier
from teflon_rocket.exact.state import Family, Lowering, Sum
from teflon_rocket.operations.base import Operation

RULES = Family()

_FUSED_ERROR = 0.98
"""Largest distance, before rounding and in steps of the sum, of a fused addition from the reference
of both operations: below 1 the results are at most a step apart."""
_FACTOR_ERROR = 2.0**-16
"""Relative error of a factor of 15 bits."""
_FUSED_UNIT = 0.125
"""Largest accumulator unit of a host in steps of the sum: limits are rounded to them."""
_OPERAND_BITS, _SUM_BITS = 29, 28
"""Bits of the operand and the limits, and of the sums with their biases, in accumulator units: all
together stay within 32 bits."""


@RULES.lowers
def addition(op: Add, state: Lowering) -> Iterator[Operation]:
    """Return the layers of the host, the last one adds; without a host a pass of the DPU."""
    found = state.sums.get(op)
    if found is None:
        yield from pair(op, state)
        return
    source = state.features[found.host.inputs_present[0]]
    *before, last = layers(found.host, source, state.features[found.mine])
    added = Addition(
        operand=state.features[found.other],
        operand_affine=Affine.of(found.other.type),
        sum=Affine.of(op.output.type),
        clamp=clamp_of(op),
    )
    last = dataclasses.replace(last, output=state.features[op.output], addition=added)
    for layer in (*before, last):
        yield from convolutions(layer, state.chip, layer.output in state.added)


def sums(graph: Graph) -> dict[Op, Sum]:
    """Return how those additions of a graph are done that a convolution does.

    The convolution that makes the first operand adds the second, as in Mesa's programs. Where it
    cannot, the one that makes the second operand adds the first.
    """
    found = {op: _sum(graph, op) for op in graph.ops if isinstance(op, Add)}
    return {op: done for op, done in found.items() if done is not None}


def _sum(graph: Graph, op: Add) -> Sum | None:
    for mine, other in ((op.a, op.b), (op.b, op.a)):
        host = graph.producer(mine)
        if op.a is not op.b and host is not None and _can_host(graph, op, host, mine, other):
            return Sum(host, mine, other)
    return None


def _can_host(graph: Graph, add: Add, host: Op, mine: Value, other: Value) -> bool:
    """Whether nothing else needs the convolution's own result, and the sum stays within a step."""
    if not isinstance(host, Conv2D | DepthwiseConv2D | FullyConnected):
        return False
    if other.is_constant or not (mine.shape == other.shape == add.output.shape):
        return False
    if graph.users(mine) != (add,) or graph.is_output(mine):
        return False
    quantization = host.weights.type.quantization
    if not is_whole(host) or quantization is None or len(set(quantization.scales)) > 1:
        return False
    unit = host.input.type.scale * host.weights.type.scale
    largest = max(v.type.scale for v in (mine, other, add.output))
    return (
        _error(unit, mine, other, add.output) <= _FUSED_ERROR
        and unit <= _FUSED_UNIT * add.output.type.scale
        and operand_multiplier(other.type.scale / unit) is not None
        and 256 * largest / unit < 2**_OPERAND_BITS
        and _largest_sum(host) < 2**_SUM_BITS
    )


def _largest_sum(host: Conv2D | DepthwiseConv2D | FullyConnected) -> int:
    """Return a bound of sums and biases, whatever the weights are."""
    bias = 0 if host.bias is None or host.bias.data is None else int(np.abs(host.bias.data).max())
    terms = math.prod(host.weights.shape[1 : 3 if isinstance(host, DepthwiseConv2D) else 4])
    return bias + 2 * 128 * 255 * terms


def _error(unit: float, mine: Value, other: Value, total: Value) -> float:
    """Return a bound of how far a fused sum is from the reference, in steps of the sum.

    unit: what one step of the host's accumulator is worth. The reference rounds the host's result,
    twice with a shift between (half a step, and at most one accumulator unit). The DPU rounds the
    operand, the limits before and the limits after the addition to accumulator units. Its factors
    have 15 bits: those of operands and result that reach over the whole of their ranges.
    """
    step, accumulator, added = (
        scale / total.type.scale for scale in (mine.type.scale, unit, other.type.scale)
    )
    return step / 2 + 2.5 * accumulator + 256 * _FACTOR_ERROR * (1 + added)
