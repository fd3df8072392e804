"""One inference over several cores: parts have the whole's bits, stages are chosen by time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teflon.devices import open_device
from teflon.ir import Array, Graph
from teflon.ir.interpreter import run
from teflon.split.compiler import SplitDevice
from teflon.split.context import SplitContext
from teflon_cpu.context import CpuContext
from teflon_cpu.device import CpuDevice
from tests.split_graphs import ROCKET, choices, networks


class ManyCores(CpuDevice):
    """The reference, as a chip of several cores."""

    cores = 4


def inputs_of(graph: Graph, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    found = []
    for value in graph.inputs:
        low, high = value.type.dtype.range
        found.append(random.integers(low, high + 1, value.shape, value.type.dtype.numpy))
    return found


def same(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_stages_compute_what_the_graph_does(data: st.DataObject) -> None:
    graph = data.draw(networks())
    cores = data.draw(st.integers(2, 4))
    device = SplitDevice(ManyCores(), cores)
    program = device.staged(graph, data.draw(choices(graph, cores)))
    if program is None:
        return
    inputs = inputs_of(graph)
    with SplitContext(device, [CpuContext() for _ in range(cores)]) as context:
        executable = context.load(device.load(program.to_bytes()))
        same(context.invoke(executable, inputs), run(graph, inputs))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_stages_on_the_simulated_chip(data: st.DataObject) -> None:
    """Additions round as in the whole: a device computes them within the convolution before."""
    graph = data.draw(networks(ROCKET, 4))
    opened = [open_device("sim:rk3588", {}) for _ in range(3)]
    inner, contexts = opened[0][0], [context for _, context in opened if context is not None]
    device = SplitDevice(inner, 3)
    if any(inner.unsupported(op, graph) for op in graph.ops):
        return
    program = device.staged(graph, data.draw(choices(graph, 3)))
    if program is None:
        return
    inputs = inputs_of(graph)
    with SplitContext(device, contexts) as context:
        whole = contexts[0].invoke(contexts[0].load(inner.compile(graph)), inputs)
        same(context.invoke(context.load(program), inputs), whole)
