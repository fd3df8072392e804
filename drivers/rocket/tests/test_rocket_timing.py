"""The model of time for rocket programs: it counts what the program does, and is monotone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import ProgramError
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.pipe import Cost
from teflon_rocket import chips, timing
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import RocketProgram

DEVICE = RocketDevice("rk3588")
RATES = chips.RATES["rk3588"]


def graph(
    size: int,
    channels: int,
    kernels: int,
    taps: int = 1,
    layers: int = 1,
    *,
    depthwise: bool = False,
) -> Graph:
    """Return convolutions of the same kind, one after the other."""
    b = Builder("made")
    x = b.input("x", "u8", (1, size, size, channels), scale=0.1, zero_point=128)
    for _ in range(layers):
        shape = (1, taps, taps, x.shape[3]) if depthwise else (kernels, taps, taps, x.shape[3])
        weights = b.constant(np.full(shape, 130, np.uint8), scale=0.01, zero_point=128)
        bias = np.zeros(shape[3] if depthwise else kernels, np.int32)
        convolve = b.depthwise_conv2d if depthwise else b.conv2d
        x = convolve(x, weights, bias, scale=0.1, zero_point=128)
    b.output(x)
    return b.build()


def program(
    size: int, channels: int, kernels: int, taps: int = 1, layers: int = 1
) -> RocketProgram:
    return DEVICE.compile(graph(size, channels, kernels, taps, layers))


def chip(found: list[Cost]) -> list[Cost]:
    return [cost for cost in found if cost.engine == "npu"]


def test_one_layer_by_hand() -> None:
    first, layer, last = timing.costs(program(14, 64, 96))
    pixels = 14 * 14
    assert (first.engine, layer.engine, last.engine) == ("host", "npu", "host")
    assert layer.macs == pixels * 64 * 96
    assert layer.array_cycles == pixels * 2 * 3, "groups of 32 channels and of 32 kernels"
    assert layer.coefficient_bytes == 64 * 96 + 4 * 96
    assert layer.dram_written == pixels * 96
    assert layer.dram_read == pixels * 64 + layer.coefficient_bytes + 8 * 130
    assert layer.sram_hits == 0
    assert layer.milliseconds["array"] == pytest.approx(layer.array_cycles * 1e3 / 200e6)
    assert layer.milliseconds["launch"] == RATES.job
    assert first.dram_written == pixels * 64
    assert last.dram_read == pixels * 96


def test_a_few_channels_cost_as_many_as_an_array_is_wide() -> None:
    three, sixteen = (chip(timing.costs(program(8, c, 32)))[0] for c in (3, 16))
    assert three.array_cycles == sixteen.array_cycles
    assert three.macs < sixteen.macs
    assert three.utilisation < sixteen.utilisation < 1


def test_depthwise_uses_a_small_part_of_the_array() -> None:
    deep = chip(timing.costs(DEVICE.compile(graph(8, 64, 0, 3, depthwise=True))))[0]
    assert deep.macs == 8 * 8 * 9 * 64
    assert deep.array_cycles == 8 * 8 * 9
    assert deep.macs / deep.array_cycles == 64


def test_layers_in_several_tasks_fetch_rows_again_and_reuse_weights() -> None:
    made = program(112, 64, 32, 3)
    tasks = made.statistics["tasks"]
    assert tasks > 1
    (layer,) = chip(timing.costs(made))
    weights = 9 * 64 * 32
    assert layer.macs == 112 * 112 * 9 * 64 * 32
    assert layer.sram_hits == (tasks - 1) * weights
    assert layer.coefficient_bytes == weights + tasks * 4 * 32
    assert layer.dram_read > 112 * 112 * 64 + layer.coefficient_bytes + tasks * 8 * 130


@given(st.integers(1, 40), st.integers(1, 100), st.integers(1, 100), st.sampled_from([1, 3]))
def test_counts_are_those_of_the_graph(size: int, channels: int, kernels: int, taps: int) -> None:
    made = graph(size, channels, kernels, taps, 2)
    compiled = DEVICE.compile(made)
    found = chip(timing.costs(compiled))
    assert sum(c.macs for c in found) == sum(op.macs for op in made.ops)
    assert all(0 < c.utilisation <= 1 for c in found)
    assert all(c.macs <= c.array_cycles * 1024 for c in found)
    launches = sum(c.milliseconds["launch"] for c in found)
    assert launches == pytest.approx(RATES.job * compiled.statistics["jobs"])


@given(st.integers(2, 24), st.integers(16, 64), st.integers(16, 64))
def test_more_work_never_takes_less_time(size: int, channels: int, kernels: int) -> None:
    base, *more = (
        sum(c.total_ms for c in chip(timing.costs(program(*arguments))))
        for arguments in (
            (size, channels, kernels),
            (size + 1, channels, kernels),
            (size, channels + 1, kernels),
            (size, channels, kernels + 1),
            (size, channels, kernels, 3),
            (size, channels, kernels, 1, 2),
        )
    )
    assert all(ms >= base for ms in more)


@pytest.mark.parametrize("name", ["cycles", "memory", "host"])
def test_faster_parts_never_make_it_slower(name: str) -> None:
    made = program(20, 40, 40, 3)
    fast = replace(RATES, **{name: getattr(RATES, name) * 2})
    slow = replace(RATES, job=RATES.job * 2)
    times = [sum(c.total_ms for c in timing.costs(made, r)) for r in (fast, RATES, slow)]
    assert times[0] < times[1] < times[2]


def test_more_macs_at_equal_bytes_are_not_faster() -> None:
    """A kernel of 3x3 with as many channels less has the same bytes of weights."""
    found = [timing.costs(program(8, 16 * n, 32))[1] for n in (1, 2, 4)]
    times = [c.milliseconds["array"] for c in found]
    assert times == sorted(times)


def test_steps_are_named_after_their_operations() -> None:
    made = graph(8, 16, 16, 1, 3)
    compiled = DEVICE.compile(made)
    named = [cost.name for cost in chip(timing.costs(compiled))]
    assert len(compiled.jobs) == 1
    assert named == list(dict.fromkeys(compiled.jobs[0].task_names))
    assert len(named) == 3
    untold = replace(compiled, jobs=(replace(compiled.jobs[0], operations=()),))
    assert {cost.name for cost in chip(timing.costs(untold))} == {compiled.jobs[0].name}


def test_fewer_jobs_cost_less() -> None:
    made = graph(8, 16, 16, 1, 3)
    mesa = RocketDevice("rk3588", {"strategy": "mesa"}).compile(made)
    one, three = (chip(timing.costs(p)) for p in (DEVICE.compile(made), mesa))
    assert len(mesa.jobs) == 3
    saved = sum(c.total_ms for c in three) - sum(c.total_ms for c in one)
    assert saved == pytest.approx(2 * RATES.job)


def test_programs_of_others_are_refused() -> None:
    class Other:
        driver = "other"

    with pytest.raises(ProgramError, match="rocket: cannot estimate a program of driver other"):
        DEVICE.estimate(Other())  # type: ignore[arg-type]
