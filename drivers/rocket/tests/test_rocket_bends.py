"""LEAKY_RELU and PRELU in the pass of the convolution before them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import teflon.ir.ops as ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.bends import bends
from teflon_rocket.exact.lower import lower
from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.convolution import Convolution
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.registers import DPU, DPU_RDMA, WRITE, split_command
from tests.rocket.grid import DEVICE, open_simulator, random_inputs

Random = np.random.Generator


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def network(random: Random, prelu: bool, finer: float = 1.0, many: bool = True) -> Graph:
    """A convolution whose results stay within its range, and an activation; finer: how much smaller
    the steps of the last result are than those of the convolution's.
    """
    b, outputs, depth = Builder("bent"), 20, int(random.choice([3, 8, 24]))
    x = b.input("x", "i8", (1, 6, 7, depth), scale=0.05, zero_point=int(random.integers(-50, 50)))
    weights = random.integers(-127, 128, (outputs, 1, 1, depth)).astype(np.int8)
    scales = [float(s) for s in np.exp(random.uniform(-5, -4, outputs))]
    how: dict[str, Any] = {"weight_scale": scales if many else scales[0]}
    bias = random.integers(-2000, 2000, outputs).astype(np.int32)
    step = 0.05 * max(scales) * (127 * 180 * depth + 2000) / 126
    y = b.conv2d(x, weights, bias, scale=step, zero_point=0, **how)
    result: dict[str, Any] = {"scale": step / finer, "zero_point": int(random.integers(-20, 20))}
    if prelu:
        slopes = random.integers(-128, 128, (1, 1, outputs)).astype(np.int8)
        alpha = b.constant(slopes, 0.005, int(random.integers(-20, 20)))
        b.output(b.op(ops.Prelu, input=y, alpha=alpha, **result))
    else:
        b.output(b.leaky_relu(y, float(random.choice([0.01, 0.1, 0.3, 0.7])), **result))
    return b.build()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.floats(0.6, 1.3))
def test_within_a_step_of_both_references(
    context: RocketContext, seed: int, prelu: bool, many: bool, finer: float
) -> None:
    random = np.random.default_rng(seed)
    graph = network(random, prelu, finer, many)
    assume(bends(graph))
    (x,) = random_inputs(random, graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        have = context.invoke(loaded, [x])[0]
    value = x
    for op in graph.ops:
        value = op.evaluate(value, *(v.data for v in op.operands[1:] if v is not None))[0]
    assert np.abs(have.astype(int) - value.astype(int)).max() <= 1


@pytest.mark.parametrize("prelu", [False, True])
def test_one_pass_multiplies_what_is_below_zero(prelu: bool) -> None:
    """BN_CFG is the vendor's; a factor for each channel comes from NRDMA."""
    graph = network(np.random.default_rng(0), prelu)
    (operation,) = lower(graph, RK3588).operations
    assert isinstance(operation, Convolution)
    words = np.frombuffer(command_lists(operation, strict).data, "<u8").tolist()
    found = {(c[0], c[1]): c[2] for c in map(split_command, words)}
    assert found[DPU.target + WRITE, DPU.BN_CFG.offset] == 0x62
    source = DPU.BN_MUL_CFG.unpack(found[DPU.target + WRITE, DPU.BN_MUL_CFG.offset]).BN_MUL_SRC
    use = found[DPU_RDMA.target + WRITE, DPU_RDMA.RDMA_NRDMA_CFG.offset]
    assert (source, use) == ((1, 8) if prelu else (0, 0))


def test_finer_results_are_made_by_a_pass_of_their_own() -> None:
    """Half a step of the convolution's own result would be more than one of the last."""
    graph = network(np.random.default_rng(0), False, finer=2.1)
    assert bends(graph) == {}
    assert len(lower(graph, RK3588).operations) == 2


def test_a_result_that_others_read_stays() -> None:
    graph = network(np.random.default_rng(0), False)
    both = Graph(graph.name, graph.inputs, (*graph.outputs, graph.ops[0].results[0]), graph.ops)
    assert bends(both) == {}


def test_limits_in_between_are_kept() -> None:
    """The convolution's own result ends where that of the activation does not."""
    graph = network(np.random.default_rng(0), False)
    convolution, activation = graph.ops
    narrow = dataclasses.replace(convolution, clamp=(-60, 127))  # type: ignore[call-arg]
    limited = Graph(graph.name, graph.inputs, graph.outputs, (narrow, activation))
    assert bends(graph)
    assert not bends(limited)
