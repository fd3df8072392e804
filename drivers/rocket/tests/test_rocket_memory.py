"""A program in few buffers and jobs has the tasks of one with a buffer for each thing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.lower import lower
from teflon_rocket.exact.strategy import Exact
from teflon_rocket.jobs import JOB_SECONDS, slowest_seconds
from teflon_rocket.memory import features, lifetimes, rooms
from teflon_rocket.program import RocketProgram, Task
from teflon_rocket.registers import DPU
from teflon_rocket.simulator.kernel import RocketKernel
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.text.commands import decode
from tests.paths import needs_shared
from tests.recorded import partitions
from tests.rocket.apart import APART
from tests.rocket.grid import DEVICE, Random, convolved, open_simulator, pick, random_inputs
from tests.rocket.parity import NAMES, read, recorded_buffers

_NO_ADDRESS = ~(0xFFFFFFFF << 16)


class Lists:
    """The tasks of a program in order: words without addresses, and where those point."""

    def __init__(self, program: RocketProgram) -> None:
        self.program = program
        self.tasks = [task for job in program.jobs for task in job.tasks]
        self.relocs = {(r.buffer, r.offset): (r.target, r.addend) for r in program.relocs}

    def words(self, task: Task) -> list[int]:
        words = np.frombuffer(self.data(task.buffer), "<u8", task.count, task.offset).tolist()
        for place in range(task.count):
            if (task.buffer, task.offset + 8 * place) in self.relocs:
                words[place] &= _NO_ADDRESS
        return [int(word) for word in words]

    def output_word(self, task: Task) -> int:
        """Where the list has the address of the DPU's output."""
        places = [w & 0xFFFF for w in self.words(task)]
        return places.index(DPU.DST_BASE_ADDR.offset)

    def targets(self, task: Task) -> dict[int, tuple[int, int]]:
        """{word: (buffer, offset in it)}."""
        found = (
            (n, self.relocs.get((task.buffer, task.offset + 8 * n))) for n in range(task.count)
        )
        return {n: target for n, target in found if target is not None}

    def data(self, buffer: int) -> bytes:
        return bytes(self.program.buffers[buffer].data or b"")


def compare(apart: RocketProgram, packed: RocketProgram) -> None:
    """Raise AssertionError where a task differs in more than where things lie."""
    ours, theirs = Lists(packed), Lists(apart)
    assert len(ours.tasks) == len(theirs.tasks)
    bases: dict[int, set[tuple[int, int]]] = {}
    starts = {(t.buffer, t.offset): n for n, t in enumerate(ours.tasks)}
    their_starts = {(t.buffer, t.offset): n for n, t in enumerate(theirs.tasks)}
    for mine, other in zip(ours.tasks, theirs.tasks, strict=True):
        assert ours.words(mine) == theirs.words(other)
        here, there = ours.targets(mine), theirs.targets(other)
        assert list(here) == list(there)
        for (buffer, offset), (known, addend) in zip(here.values(), there.values(), strict=True):
            role = apart.buffers[known].role
            assert packed.buffers[buffer].role == role
            if role == "tensor":
                bases.setdefault(known, set()).add((buffer, offset - addend))
            elif role == "regcmd":
                assert starts[buffer, offset] == their_starts[known, addend]
            else:
                wanted = theirs.data(known)[addend:]
                assert ours.data(buffer)[offset : offset + len(wanted)] == wanted
    assert all(len(places) == 1 for places in bases.values()), "a tensor lies in one place"
    for mine_port, other_port in zip(
        packed.input_ports + packed.output_ports, apart.input_ports + apart.output_ports,
        strict=True,
    ):  # fmt: skip
        if other_port.buffer in bases:
            assert bases[other_port.buffer] == {(mine_port.buffer, mine_port.offset)}


def check_arena(graph: Graph, program: RocketProgram) -> None:
    """Raise AssertionError where two tensors that live at once share a byte."""
    operations = lower(graph, RK3588).operations
    sizes = rooms(operations)
    lives = lifetimes(operations, sizes)
    addresses: dict[Any, tuple[int, int]] = {}
    lists = Lists(program)
    tasks = iter(lists.tasks)
    for op in operations:
        task, *_ = [next(tasks) for _ in range(op.tasks)]
        (output,) = op.writes
        if output.whole is None:
            addresses[output.name, output.shape] = lists.targets(task)[lists.output_word(task)]
    placed = [
        (*addresses[f.name, f.shape], sizes[f], lives[f])
        for f in features(operations)
        if f.whole is None and (f.name, f.shape) in addresses and f.value is not None
    ]
    for (a, start, size, life), (b, other, length, span) in combinations(placed, 2):
        if a == b and life.meets(span):
            assert start + size <= other or other + length <= start
    for buffer, start, size, _ in placed:
        assert start + size <= program.buffers[buffer].size


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_the_same_tasks_in_another_place(name: str) -> None:
    recording, graph = read(name)
    if not recorded_buffers(recording):
        return
    for part in partitions(recording, graph):
        packed = Exact().compile(part, RK3588)
        compare(APART.compile(part, RK3588), packed)
        assert len(packed.buffers) <= 6
        for job in packed.jobs:
            assert len({*job.reads, *job.writes}) == len(job.reads) + len(job.writes)


def chained(random: Random) -> Graph:
    """Convolutions and additions of channel counts that are padded in every way."""
    b = Builder("chained")
    channels = int(pick(random, 3, 16, 17, 40))
    x = b.input("x", "u8", (int(pick(random, 1, 1, 2)), 6, 5, channels), 0.1, 100)
    values = [x]
    for _ in range(int(random.integers(3, 9))):
        source = values[int(random.integers(max(0, len(values) - 3), len(values)))]
        depth = source.shape[3]
        wide = int(pick(random, 5, 16, 33, 64))
        alike = [v for v in values if v.shape == source.shape and v is not source]
        if alike and random.random() < 0.4:
            values.append(b.add(source, alike[-1], scale=0.2, zero_point=90))
        elif random.random() < 0.4:
            shape = (1, 3, 3, depth)
            values.append(convolved(b, random, source, shape, True, padding="same"))
        else:
            shape = (wide, 1, 1, depth)
            values.append(convolved(b, random, source, shape, False, padding="same"))
    used = {v for op in b._ops for v in op.inputs_present}
    b.output(*(v for v in values[1:] if v not in used))
    return b.build()


class Spilling(Machine):
    """A chip that writes noise into every lane and surface that it may touch beyond the result."""

    spilled = 0

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        data = self.memory.view(regcmd_address, 8 * count, "list").tobytes()
        found = {type(c.register): c.register for c in decode(data) if c.register}
        fields: Any = {kind.title(): register for kind, register in found.items()}
        get: Any = lambda kind: fields[kind.title()]  # noqa: E731
        cube = self.memory.strided(
            get(DPU.DST_BASE_ADDR).DST_BASE_ADDR,
            (
                get(DPU.DATA_CUBE_CHANNEL).CHANNEL // 16,
                get(DPU.DATA_CUBE_HEIGHT).HEIGHT,
                get(DPU.DATA_CUBE_WIDTH).WIDTH * 16,
            ),
            (
                get(DPU.DST_SURF_STRIDE).DST_SURF_STRIDE * 16,
                get(DPU.DATA_CUBE_WIDTH).WIDTH * 16,
                1,
            ),
            np.uint8,
            "spilled",
        )
        cube[...] = np.random.default_rng(regcmd_address).integers(0, 256, cube.shape, np.uint8)
        type(self).spilled += cube.size
        super().run_task(regcmd_address, count, core, where)


def test_nobody_reads_what_is_written_beyond_a_result() -> None:
    """Which lanes beyond the last channel are written is not known: all may be."""

    def machine(memory: DeviceMemory) -> Machine:
        return Spilling(RK3588, memory)

    kernel = RocketKernel(RK3588, asynchronous=False, machine=machine)
    spilling = RocketContext(DEVICE, FakeWinsys(kernel))
    with spilling, open_simulator() as plain:
        for seed in range(60):
            random = np.random.default_rng(seed)
            graph = chained(random)
            inputs = random_inputs(random, graph)
            program = DEVICE.compile(graph)
            check_arena(graph, program)
            ours = spilling.invoke(spilling.load(program), inputs)
            theirs = plain.invoke(plain.load(program), inputs)
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
    assert Spilling.spilled > 0


def test_equal_constants_are_kept_once() -> None:
    b = Builder("twice")
    x = b.input("x", "u8", (1, 4, 4, 32), 0.1, 128)
    weights = np.arange(32 * 32, dtype=np.uint8).reshape(32, 1, 1, 32)
    for _ in range(3):
        x = b.conv2d(x, weights, weight_scale=0.01, weight_zero_point=128, scale=0.1)
    b.output(x)
    program = DEVICE.compile(b.build())
    assert len(program.buffers[0].data or b"") == 32 * 32
    assert program.statistics["jobs"] == 1


def test_a_job_ends_long_before_the_kernel_gives_up() -> None:
    """Operations of half a tenth of a second in the worst case: never three in a job."""
    b = Builder("long")
    x = b.input("x", "u8", (1, 64, 64, 256), 0.1, 128)
    weights = np.ones((256, 3, 3, 256), np.uint8)
    for _ in range(6):
        x = b.conv2d(x, weights, weight_scale=0.01, padding="same", scale=0.1)
    b.output(x)
    program = DEVICE.compile(b.build())
    assert slowest_seconds(64 * 64 * 256 * 256 * 9, 0, 0, RK3588) > JOB_SECONDS / 2
    assert [len(j.name.split(" to ")) for j in program.jobs] == [1] * 6
    tasks = sum(len(job.tasks) for job in program.jobs)
    assert tasks == program.statistics["tasks"] > 6


@needs_shared
def test_mobilenet_in_one_job_and_half_of_the_bytes() -> None:
    recording, graph = read("mobilenet_v1_1.0_224_quant")
    parts = partitions(recording, graph)
    ours = [Exact().compile(part, RK3588).statistics for part in parts]
    theirs = [APART.compile(part, RK3588).statistics for part in parts]
    assert [counts["jobs"] for counts in ours] == [1] * len(parts)
    assert sum(c["bo_bytes"] for c in ours) * 2 <= sum(c["bo_bytes"] for c in theirs)
    for counts in ours:
        assert counts["arena_bound"] <= counts["arena_bytes"] <= counts["feature_bytes"]


def test_an_input_that_only_a_part_of_it_stands_for_is_kept_from_the_beginning() -> None:
    """The host fills it before the first operation, so nothing else may lie there before."""
    b = Builder("parts")
    x = b.input("x", "i8", (1, 8, 8, 32), 1 / 64, 3)
    late = b.input("late", "i8", (32,), 1 / 64, 3)
    weights = np.random.default_rng(0).integers(-127, 128, (32, 8, 8, 32), np.int8)
    mixed = b.conv2d(b.conv2d(x, weights, padding="same"), weights, padding="valid")
    b.output(b.add(mixed, b.reshape(late, (1, 1, 1, 32))))
    program = DEVICE.compile(b.build())
    (port,) = (p for p in program.input_ports if p.name == "late")
    assert program.buffers[port.buffer].name == "inputs"


def test_an_input_of_which_operations_read_a_part_has_room_for_all_that_the_host_fills() -> None:
    b = Builder("first")
    x = b.input("x", "i8", (2, 9, 7, 48), 1 / 64, 3)
    y = b.input("y", "i8", (1, 5, 7, 16), 1 / 64, 3)
    b.output(b.leaky_relu(b.slice(x, (0, 0, 0, 0), (2, 5, 7, 16))), b.leaky_relu(y))
    graph = b.build()
    inputs = random_inputs(np.random.default_rng(0), graph)
    with open_simulator() as plain:
        found = plain.invoke(plain.load(DEVICE.compile(graph)), inputs)
    for one, other in zip(found, interpreter.run(graph, inputs), strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
