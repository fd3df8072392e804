"""One inference over several cores: parts have the whole's bits, stages are chosen by time."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teflon.devices import open_device
from teflon.errors import (
    DeviceError,
    DeviceTimeout,
    DriverUnavailable,
    LimitExceeded,
    OptionError,
    ProgramError,
)
from teflon.ir import Array, Graph
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.pipe import Cost, Device, Executable, Fence, Program
from teflon.run.multicore.choose import Choice, choose
from teflon.run.multicore.context import MulticoreContext, MulticoreFence
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.parts import Part, Rows, cut_channels, cut_rows
from teflon.run.multicore.timing import Assumptions, Effort, duration
from teflon_cpu.context import CpuContext, CpuExecutable
from teflon_cpu.device import CpuDevice, CpuProgram
from tests.run.helpers import ROCKET, chained, choices, networks


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


def parts_of(stage: Graph, choice: Choice) -> list[Part]:
    if isinstance(choice.cut, Rows):
        return cut_rows(stage, choice.cut) or []
    return (cut_channels(stage, choice.cut) or []) if choice.cut else []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_stages_compute_what_the_graph_does(data: st.DataObject) -> None:
    graph = data.draw(networks())
    cores = data.draw(st.integers(2, 4))
    device = MulticoreDevice(ManyCores(), cores)
    chosen = data.draw(choices(graph, cores))
    for choice in chosen:
        stage = graph.subgraph(graph.ops[choice.first : choice.last])
        for part in parts_of(stage, choice):
            part.graph.verify("dividing")
    program = device.compile_stages(graph, chosen)
    assert program is not None, "the reference takes every part"
    inputs = inputs_of(graph)
    with MulticoreContext(device, [CpuContext() for _ in range(cores)]) as context:
        executable = context.load(device.load(program.to_bytes()))
        same(context.invoke(executable, inputs), run(graph, inputs))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_stages_on_the_simulated_chip(data: st.DataObject) -> None:
    """Additions round as in the whole: a device computes them within the convolution before."""
    graph = data.draw(networks(ROCKET, 4))
    opened = [open_device("sim:rk3588", {}) for _ in range(3)]
    inner, contexts = opened[0][0], [context for _, context in opened if context is not None]
    device = MulticoreDevice(inner, 3)
    if any(inner.unsupported(op, graph) for op in graph.ops):
        return
    program = device.compile_stages(graph, data.draw(choices(graph, 3)))
    if program is None:
        return
    inputs = inputs_of(graph)
    with MulticoreContext(device, contexts) as context:
        whole = contexts[0].invoke(contexts[0].load(inner.compile(graph)), inputs)
        same(context.invoke(context.load(program), inputs), whole)


# Time -----------------------------------------------------------------------------------------


def test_the_host_feeds_and_joins_one_core_after_the_other() -> None:
    plain = Assumptions(request=0.5)
    loads = [Effort(before=1, array=10, memory=2, after=3)] * 3
    assert duration(loads[:1], plain) == 1.5 + 12 + 3
    assert duration(loads, plain) == 1.5 + 12 + 3 * 3
    assert duration(loads, Assumptions(request=0.5, sharing=1.0)) == 1.5 + 10 + 3 * 2 + 3 * 3
    idle = [Effort(before=5, array=1, memory=0, after=0)] * 3
    assert duration(idle, plain) == 3 * 5.5 + 1


def test_choices_follow_the_model_of_time() -> None:
    graph = chained(3)

    def costs(ms: float) -> list[Cost]:
        return [Cost(op.where, "npu", {"array": ms}) for op in graph.ops]

    (slow,) = choose(graph, costs(60.0), 3, Assumptions(request=3.0))
    assert isinstance(slow.cut, Rows)
    assert len(slow.cut) == 3
    top, middle, _ = np.diff(slow.cut.cuts)
    assert middle < top, "the middle has two borders, the top begins first"
    assert choose(graph, costs(0.01), 3, Assumptions()) == [Choice(0, 3)]
    assert choose(graph, costs(30.0), 3, Assumptions(copy=1.0)) == [Choice(0, 3)], "slow copies"
    many = choose(graph, costs(30.0), 3, Assumptions(copy=1e9, request=0))
    assert len(many) > 1, "where joining costs nothing, nothing is computed twice"


# Devices and programs -------------------------------------------------------------------------


class Slow(ManyCores):
    """A millisecond for each row of a result; nothing else costs anything."""

    def estimate(self, program: Program) -> list[Cost]:
        assert isinstance(program, CpuProgram)
        return [
            Cost(op.where, "npu", {"array": float(op.results[0].shape[1])}, op.macs, peak=1e6)
            for op in program.graph.ops
        ]


class Timeless(ManyCores):
    """A driver without a model of time."""

    def estimate(self, program: Program) -> list[Cost]:
        raise DriverUnavailable("many: has no model of time")


def test_a_program_in_stages_says_what_it_does() -> None:
    device = MulticoreDevice(Slow(), 3, Assumptions(request=2.0))
    program = device.compile(chained(2))
    assert program.cores == 3
    whole, parts = program.prediction.one_core, program.prediction.chosen
    assert whole == 96
    assert 32 + 3 * 2 < parts < 48
    assert parts == pytest.approx(sum(cost.total_ms for cost in device.estimate(program)))
    assert program.statistics["repeated_macs"] > 0
    head, *stages = program.remarks
    assert head == (
        f"{len(stages)} stage{'s' * (len(stages) > 1)} on 3 cores: {parts:.2f} ms predicted"
        f" ({parts:.2f} if cores share one memory rate), on one core 96.00 ms"
    )
    assert all("rows on 3 cores" in stage for stage in stages)
    merged = [cost for cost in device.estimate(program) if cost.engine != "host"]
    assert {cost.engine for cost in merged} == {"npu x3"}
    assert sum(cost.macs for cost in merged) == program.statistics["macs"]
    assert "core 2" in device.describe(program)


@pytest.mark.parametrize(
    ("inner", "cores", "note"),
    [
        (Slow(), 1, "one core was asked for"),
        (CpuDevice(), 3, "cpu runs one job at a time"),
        (open_device("rk3588", {"strategy": "mesa"})[0], 3, "parts would not give the same bits"),
        (Timeless(), 3, "has no model of time"),
    ],
)
def test_the_note_says_why_nothing_is_divided(inner: Device, cores: int, note: str) -> None:
    program = MulticoreDevice(inner, cores).compile(chained(2))
    assert program.cores == 1
    assert len(program.stages) == 1
    assert program.remarks[0].startswith("1 stage on 1 core: ")
    assert note in program.remarks[0]


def test_no_cores_are_refused() -> None:
    with pytest.raises(OptionError, match=r"^option cores: is 0, must be at least 1$"):
        MulticoreDevice(Slow(), 0)
    with pytest.raises(OptionError, match=r"^stages: there are no contexts"):
        MulticoreContext(MulticoreDevice(Slow(), 1), [])


def test_programs_survive_saving_and_damage_is_found() -> None:
    device = MulticoreDevice(Slow(), 3)
    data = device.compile(chained(2)).to_bytes()
    assert device.load(data).to_bytes() == data
    for broken in (data[:-1], data + b"0", data[:50], data[:30] + b"x" + data[31:], data[:12]):
        with pytest.raises(ProgramError):
            device.load(broken)
    alone = CpuDevice().compile(chained(1))
    assert device.load(alone.to_bytes()).remarks == (
        "1 stage on 1 core: it was compiled for one core",
    )


def test_programs_for_more_cores_than_there_are() -> None:
    device = MulticoreDevice(Slow(), 3)
    with (
        MulticoreContext(device, [CpuContext()]) as context,
        pytest.raises(
            ProgramError, match=r"^program: is for 3 cores, must be in stages for at most 1 "
        ),
    ):
        context.load(device.compile(chained(2)))


def test_inferences_run_in_order_and_inputs_may_change() -> None:
    graph = chained(2)
    device = MulticoreDevice(Slow(), 2)
    with MulticoreContext(device, [CpuContext(), CpuContext()]) as context:
        executable = context.load(device.compile(graph))
        given = [inputs_of(graph, seed) for seed in range(3)]
        wanted = [run(graph, arrays) for arrays in given]
        fences = []
        for arrays in given:
            fences.append(context.submit(executable, arrays))
            arrays[0][:] = 0
        for fence, outputs in zip(fences, wanted, strict=True):
            same(fence.wait(), outputs)
            assert fence.done()


class Tall(Slow):
    """Has no programs for maps of few rows."""

    def compile(self, subgraph: Graph) -> Program:
        if subgraph.inputs[0].shape[1] < 40:
            raise LimitExceeded("tall: too few rows")
        return super().compile(subgraph)


def test_parts_that_the_device_refuses_leave_the_whole() -> None:
    program = MulticoreDevice(Tall(), 3).compile(chained(2))
    assert program.remarks == ("1 stage on 1 core: the device cannot run parts of it",)


def test_small_gains_are_left() -> None:
    """The coarse model finds stages, the driver's own does not confirm them."""

    class Rough(Slow):
        def estimate(self, program: Program) -> list[Cost]:
            return [
                replace(cost, milliseconds={"array": 48.0}) for cost in super().estimate(program)
            ]

    (remark,) = MulticoreDevice(Rough(), 3).compile(chained(2)).remarks
    assert re.fullmatch(r"1 stage on 1 core: 96\.00 ms predicted, in stages 9\d\.\d\d ms", remark)


class Full(CpuContext):
    """A core that takes one program."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[CpuExecutable] = []

    def load(self, program: Program) -> Executable:
        if self.loaded:
            raise DeviceError("core: is full")
        executable = super().load(program)
        assert isinstance(executable, CpuExecutable)
        self.loaded.append(executable)
        return executable


def test_a_load_that_fails_frees_what_was_loaded() -> None:
    device = MulticoreDevice(Slow(), 2, Assumptions(request=0.0))
    program = device.compile(chained(2))
    assert len(program.stages) == 2
    first, second = Full(), Full()
    with (
        MulticoreContext(device, [first, second]) as context,
        pytest.raises(DeviceError, match=r"^core: is full$"),
    ):
        context.load(program)
    assert [e.closed for e in (*first.loaded, *second.loaded)] == [True, True]


class Broken(CpuContext):
    """A core that fails at a submit, or while others wait for it."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late = late
        self.waited = threading.Event()

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        if not self.late:
            raise DeviceError("core: does not answer")
        return Hung(self.waited)


@dataclass
class Hung(Fence):
    waited: threading.Event

    def done(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> list[Array]:
        self.waited.set()
        raise DeviceError("core: does not answer")


@pytest.mark.parametrize("late", [False, True])
def test_an_error_of_one_core_is_raised_after_the_others_have_ended(late: bool) -> None:
    graph = chained(2)
    device = MulticoreDevice(Slow(), 3)
    first, second = Broken(late), Broken(True)
    with MulticoreContext(device, [second, first, CpuContext()]) as context:
        executable = context.load(device.compile(graph))
        with pytest.raises(DeviceError, match=r"^core: does not answer$"):
            context.invoke(executable, inputs_of(graph))
        assert second.waited.is_set()
        with pytest.raises(DeviceError, match=r"^core: does not answer$"):
            context.submit(executable, inputs_of(graph)).wait(10)
        with pytest.raises(ProgramError, match=r"^program: was loaded by another context"):
            context.invoke(CpuExecutable(CpuProgram(graph)), inputs_of(graph))


def test_a_wait_may_time_out() -> None:
    future: Future[list[Array]] = Future()
    fence = MulticoreFence(future)
    with pytest.raises(DeviceTimeout, match=r"^stages: an inference is not done after 0\.01 s"):
        fence.wait(0.01)
    future.set_result([])
    assert (fence.done(), fence.wait()) == (True, [])


@pytest.mark.parametrize("kind", ["conv2d", "fully_connected"])
def test_many_weights_are_divided_by_channels(kind: str) -> None:
    """Three megabytes of weights for one pixel: each core reads a third of them."""
    random = np.random.default_rng(0)
    b = Builder(kind)
    x = b.input("x", "u8", (1, 1, 1, 2048) if kind == "conv2d" else (1, 2048), 1 / 64, 3)
    shape = (1500, 1, 1, 2048) if kind == "conv2d" else (1500, 2048)
    weights, bias = random.integers(0, 256, shape, np.uint8), np.arange(1500, dtype=np.int32)
    b.output(getattr(b, kind)(x, weights, bias, activation="relu"))
    graph = b.build()
    opened = [open_device("sim:rk3588", {}) for _ in range(3)]
    contexts = [context for _, context in opened if context is not None]
    device = MulticoreDevice(opened[0][0], 3)
    program = device.compile(graph)
    (stage,) = program.stages
    assert (stage.kind, len(stage.shares)) == ("channels", 3)
    assert [piece.low % 32 for share in stage.shares for _, piece in share.yields] == [0, 0, 0]
    assert program.statistics["repeated_macs"] == 0
    with MulticoreContext(device, contexts) as context:
        inputs = inputs_of(graph)
        whole = contexts[0].load(opened[0][0].compile(graph))
        same(context.invoke(context.load(program), inputs), contexts[0].invoke(whole, inputs))


def test_the_key_of_cached_programs_names_cores_and_compiler() -> None:
    inner = open_device("rk3588", {})[0]
    keys = {MulticoreDevice(inner, cores).signature() for cores in (1, 2, 3)}
    assert len(keys) == 3
    assert MulticoreDevice(Slow(), 3).signature() is None, "a device that is not cached"
