"""An operation of another kind finds its place: one is defined here, and nothing else is touched.

It is a pass of the DPU on its own, which adds a number to every element: what requantising comes
down to where both scales are equal. With it come its rule, its commands, its text, its cost, and
the part of the simulator that runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from teflon.errors import SimulatorFault
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.ops import Conv2D, Logistic, Quantize
from teflon.ir.types import Array
from teflon_rocket import timing
from teflon_rocket.chips import RK3588, Chip
from teflon_rocket.exact.lower import surfaces
from teflon_rocket.exact.rules.additions import sums
from teflon_rocket.exact.rules.convolutions import RULES
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.exact.strategy import PACKED
from teflon_rocket.mesa.strategy import ASSEMBLER as MESA
from teflon_rocket.operations import dpu, dpu_rdma
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import NO_CLAMPS, Converter
from teflon_rocket.program import RocketProgram
from teflon_rocket.registers import DPU, DPU_RDMA
from teflon_rocket.simulator import machine
from teflon_rocket.simulator.clock import COMMAND_BYTES, Work
from teflon_rocket.simulator.clock import surfaces as spans
from teflon_rocket.simulator.engine import Core, Engine, Task
from teflon_rocket.simulator.engines import ENGINES
from teflon_rocket.simulator.registerfile import RegisterFile
from teflon_rocket.text.commands import decode, show
from teflon_rocket.text.program import describe
from tests.rocket.grid import open_simulator
from tests.rocket.times import check_time

SIZE = (1, 6, 5, 20)
CHANNELS, PADDED = 20, 32
TASKS = 2
ROWS = SIZE[1] // TASKS


@dataclass(frozen=True, eq=False)
class Offset(Operation):
    """Adds `number` to every element, the upper half of the rows first."""

    units = (DPU, DPU_RDMA)

    name: str
    input: Feature
    output: Feature
    number: int
    macs: int = 0

    @property
    def reads(self) -> tuple[Feature, ...]:
        return (self.input,)

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.output,)

    def surfaces(self, feature: Feature) -> int:
        return PADDED // 16

    @cached_property
    def offsets(self) -> Constant:
        data = np.full(CHANNELS, self.number, "<i4").tobytes()
        return Constant("offsets", data, PADDED * 4)

    @property
    def constants(self) -> tuple[Constant, ...]:
        return (self.offsets,)

    @property
    def tasks(self) -> int:
        return TASKS

    def emit(self, task: int, commands: Commands) -> None:
        offset = task * ROWS * SIZE[2] * 16
        cube = dpu.Cube(self.output, offset, SIZE[2], ROWS, CHANNELS, PADDED, groups=2)
        c = commands
        dpu.toggle_groups(c)
        c.write(DPU.FEATURE_MODE_CFG, FLYING_MODE=1, OUTPUT_MODE=dpu.TO_MEMORY)
        dpu.cube(c, cube)
        dpu.bias(c, NO_CLAMPS)
        dpu.write_size(c, cube)
        dpu.shift_origin(c, 0)
        dpu.no_operand(c)
        dpu.convert(c, Converter(0, 1, 0))
        dpu.finish(c, cube)
        dpu_rdma.size(c, cube)
        dpu_rdma.main(c, self.input, offset)
        dpu_rdma.biases(c, self.offsets)
        dpu_rdma.elementwise(c, None)
        c.write(DPU_RDMA.RDMA_FEATURE_MODE_CFG, FLYING_MODE=1)
        dpu_rdma.notches(c, None)

    @property
    def moved(self) -> int:
        return 2 * SIZE[1] * SIZE[2] * PADDED + TASKS * CHANNELS * 4

    def text(self) -> str:
        return f"rocket: {self.name} offset {self.number} in {TASKS} tasks"


REQUANTISED = Family()


@REQUANTISED.requires
def same_scale(op: Quantize, chip: Chip) -> str | None:
    """Requantising needs one scale on both sides."""
    scales = op.input.type.scale, op.output.type.scale
    return None if scales[0] == scales[1] else f"scales are {scales[0]:g} and {scales[1]:g}"


@REQUANTISED.lowers
def requantised(op: Quantize, state: Lowering) -> Iterator[Operation]:
    number = op.output.type.zero_point - op.input.type.zero_point
    yield Offset(op.where, state.features[op.input], state.features[op.output], number)


@dataclass(frozen=True, eq=False, kw_only=True)
class OffsetTask(Task):
    source: int
    target: int
    stream: int
    width: int
    height: int
    channels: int
    pitch: int


class OffsetEngine(Engine[OffsetTask]):
    title = "pass of the DPU"
    units = (DPU, DPU_RDMA)

    def plan(self, registers: RegisterFile) -> OffsetTask:
        if not registers[DPU.FEATURE_MODE_CFG].FLYING_MODE:
            raise SimulatorFault("DPU.FEATURE_MODE_CFG: FLYING_MODE is 0, must be 1")
        return OffsetTask(
            source=registers[DPU_RDMA.RDMA_SRC_BASE_ADDR].SRC_BASE_ADDR,
            target=registers[DPU.DST_BASE_ADDR].DST_BASE_ADDR,
            stream=registers[DPU_RDMA.RDMA_BS_BASE_ADDR].BS_BASE_ADDR,
            width=registers[DPU_RDMA.RDMA_DATA_CUBE_WIDTH].WIDTH,
            height=registers[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].HEIGHT,
            channels=registers[DPU.DATA_CUBE_CHANNEL].ORIG_CHANNEL,
            pitch=registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE * 16,
        )

    def run(self, task: OffsetTask, state: Core) -> None:
        x, y = (self._cube(task, start) for start in (task.source, task.target))
        offsets = self.memory.view(task.stream, 4 * task.channels, "offsets").view("<i4")
        lanes = np.zeros(PADDED, np.int64)
        lanes[: task.channels] = offsets
        added = x.astype(np.int64) + lanes.reshape(-1, 1, 1, 16)
        y[...] = np.clip(added, -128, 127)

    def touch(self, task: OffsetTask, state: Core) -> None:
        self._cube(task, task.target)[...] = 0

    def _cube(self, task: OffsetTask, start: int) -> np.typing.NDArray[np.int8]:
        return self.memory.strided(
            start,
            (PADDED // 16, task.height, task.width, 16),
            (task.pitch, task.width * 16, 16, 1),
            np.int8,
            "cube",
        )

    def work(self, task: OffsetTask, address: int, count: int) -> Work:
        pixels = task.width * task.height
        written = spans(task.target, PADDED // 16, task.pitch, pixels * 16)
        return Work(
            commands=COMMAND_BYTES * count,
            features=pixels * PADDED,
            operands=4 * task.channels,
            written=pixels * PADDED,
            reads=tuple(spans(task.source, PADDED // 16, task.pitch, pixels * 16)),
            writes=tuple(written),
        )


def model() -> Graph:
    """A convolution, and its result with another zero point."""
    b = Builder("family")
    x = b.input("x", "u8", SIZE, 0.1, 120)
    weights = (np.arange(CHANNELS * CHANNELS) * 37 % 251).astype(np.uint8)
    y = b.conv2d(
        x, weights.reshape(CHANNELS, 1, 1, CHANNELS), weight_scale=0.01, weight_zero_point=128,
        scale=0.3, zero_point=100, name="y",
    )  # fmt: skip
    b.output(b.quantize(y, "u8", scale=0.3, zero_point=140, name="z"))
    return b.build()


def lowered(graph: Graph) -> list[Operation]:
    rules = Family(RULES, REQUANTISED)
    state = Lowering(RK3588, surfaces(graph, {}), sums(graph))
    return [one for op in graph.ops for one in rules.lowering(op)(op, state)]


def compiled() -> RocketProgram:
    """The program, written to bytes and read again."""
    graph = model()
    made = PACKED.program(graph, lowered(graph), RK3588, "exact")
    return RocketProgram.from_bytes(made.to_bytes(), "rk3588")


def lists(program: RocketProgram) -> list[list[str]]:
    """The commands of every task as text."""
    data = [b.data or b"" for b in program.buffers]
    tasks = [task for job in program.jobs for task in job.tasks]
    return [[show(c) for c in decode(data[t.buffer][t.offset :], t.count)] for t in tasks]


def test_a_family_of_rules_joins_the_others() -> None:
    rules = Family(RULES, REQUANTISED)
    assert set(rules.lowered) == {*RULES.lowered, Quantize}
    graph = model()
    assert [rules.reasons(op, RK3588) for op in graph.ops] == [[], []]
    b = Builder("other")
    b.output(b.quantize(b.input("x", "u8", SIZE, 0.1, 3), "u8", scale=0.2, name="z"))
    reasons = rules.reasons(b.build().ops[0], RK3588)
    assert reasons == ["Requantising needs one scale on both sides (scales are 0.1 and 0.2)"]


def test_both_kinds_are_one_job() -> None:
    program = compiled()
    (job,) = program.jobs
    assert job.operations == (("y", 1), ("z", TASKS))
    assert [buffer.role for buffer in program.buffers] == [
        "weights", "biases", "offsets", "tensor", "tensor", "tensor", "regcmd",
    ]  # fmt: skip
    assert len({*job.reads, *job.writes}) == len(program.buffers)
    assert program.buffers[2].data == np.full(CHANNELS, 40, "<i4").tobytes().ljust(128, b"\0")
    assert program.buffers[2].size == PADDED * 4
    assert program.statistics["tasks"] == 1 + TASKS
    assert program.statistics["command_words"] == sum(task.count for task in job.tasks)
    assert job.tasks[0].count != job.tasks[1].count


def test_commands_addresses_and_enable_words() -> None:
    program = compiled()
    convolution, first, second = lists(program)
    assert convolution[-2:] == ["prepare", "enable CNA CORE DPU DPU_RDMA"]
    for commands in (first, second):
        assert commands[-2:] == ["prepare", "enable DPU DPU_RDMA"]
        assert "DPU.FEATURE_MODE_CFG FLYING_MODE=1 OUTPUT_MODE=2" in commands
        assert "DPU.DATA_CUBE_HEIGHT HEIGHT=3" in commands
    amount = -(-(len(first) - 4) // 2 // 2) * 2
    assert first[-3] == f"PC.REGISTER_AMOUNTS PC_DATA_AMOUNT={amount}"
    assert second[-3] == "PC.REGISTER_AMOUNTS"
    where = {(r.buffer, r.offset): (r.target, r.addend) for r in program.relocs}
    roles = [f"{b.role} {b.name}" for b in program.buffers]
    _, one, two = program.jobs[0].tasks
    seen = []
    for task, names in ((one, first), (two, second)):
        for n, name in enumerate(names):
            if (found := where.get((task.buffer, task.offset + 8 * n))) is not None:
                seen.append((name.split()[0], roles[found[0]], found[1]))
    half = ROWS * SIZE[2] * 16
    assert seen == [
        ("DPU.DST_BASE_ADDR", "tensor outputs", 0),
        ("DPU_RDMA.RDMA_SRC_BASE_ADDR", "tensor arena", 0),
        ("DPU_RDMA.RDMA_BS_BASE_ADDR", "offsets offsets", 0),
        ("PC.BASE_ADDRESS", "regcmd regcmd", two.offset),
        ("DPU.DST_BASE_ADDR", "tensor outputs", half),
        ("DPU_RDMA.RDMA_SRC_BASE_ADDR", "tensor arena", half),
        ("DPU_RDMA.RDMA_BS_BASE_ADDR", "offsets offsets", 0),
    ]


def test_text() -> None:
    program = compiled()
    assert describe(program).count("    enable DPU DPU_RDMA\n") + 1 == TASKS
    assert "buffer 2 offsets 'offsets': 128 bytes, 128 filled" in describe(program)
    (_, operation) = lowered(model())
    assert operation.text() == "rocket: z offset 40 in 2 tasks"


def test_cost() -> None:
    _, layer, offset, _ = timing.costs(compiled())
    assert (layer.name, offset.name) == ("y", "z")
    elements, words = SIZE[1] * SIZE[2] * PADDED, sum(map(len, lists(compiled())[1:]))
    assert (offset.macs, offset.array_cycles) == (0, 0)
    assert offset.dram_written == elements
    assert offset.coefficient_bytes == TASKS * CHANNELS * 4
    assert offset.dram_read == elements + offset.coefficient_bytes + 8 * words
    assert compiled().statistics["dram_bytes"] == sum(
        cost.dram_read + cost.dram_written for cost in (layer, offset)
    )


def test_mesas_memory_and_jobs_have_room_for_it() -> None:
    graph = model()
    program = MESA.program(graph, lowered(graph), RK3588, "mesa")
    assert [job.name for job in program.jobs] == ["y", "z"]
    roles = ["weights", "biases", "offsets", "tensor", "tensor", "tensor", "regcmd", "regcmd"]
    assert [buffer.role for buffer in program.buffers] == roles


def test_the_simulator_refuses_what_it_has_no_engine_for(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {mask: engine for mask, engine in ENGINES.items() if mask != OffsetEngine.mask()}
    monkeypatch.setattr(machine, "ENGINES", others)
    with open_simulator() as context:
        loaded = context.load(compiled())
        with pytest.raises(SimulatorFault, match=r"mask is #18, must be #1d \(convolution\) or #"):
            context.invoke(loaded, [inputs()])


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a chip with one more engine; both clocks count the same."""
    monkeypatch.setitem(ENGINES, OffsetEngine.mask(), OffsetEngine)
    graph = model()
    conv, quantize = graph.ops
    assert isinstance(conv, Conv2D)
    (y,) = conv.evaluate(inputs(), conv.weights.data, None)
    (want,) = quantize.evaluate(y)
    with open_simulator() as context:
        loaded = context.load(compiled())
        (have,) = context.invoke(loaded, [inputs()])
        assert check_time(loaded) == 2
    assert np.abs(have.astype(int) - want.astype(int)).max() <= 1  # the convolution's step
    assert (have == 255).any(), "something must saturate"


def inputs() -> Array:
    return np.random.default_rng(3).integers(0, 256, SIZE, np.uint8)


def test_what_is_not_lowered_is_refused() -> None:
    b = Builder("curve")
    b.output(b.logistic(b.input("x", "u8", SIZE, 0.1, 3), name="z"))
    (op,) = b.build().ops
    assert isinstance(op, Logistic)
    assert RULES.reasons(op, RK3588) == ["the driver does not run LOGISTIC on this NPU"]
