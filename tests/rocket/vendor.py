"""Runs the vendor's own command lists on the simulated RK3588, compares with the vendor's outputs.

    python -m tests.rocket.vendor [--write]

prints what does not come out right, and why; `--write` puts it into the table that the test holds.

`lists` makes complete lists of the vendor's short ones and puts in addresses; `Bench` holds a
network's tensors in device memory and runs its operations, on one, two or three cores.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import (
    CNA,
    CORE,
    DPU,
    DPU_RDMA,
    ENABLE_TARGET,
    PPU,
    PPU_RDMA,
    WRITE,
    split_command,
)
from teflon_rocket.simulator.machine import Machine
from tests.paths import ROOT, SHARED
from tests.rocket.vendor_file import (
    FLOAT16,
    INT8,
    LAYOUT_SURFACES,
    Network,
    Operation,
    Tensor,
    read,
)
from tests.rocket.vendor_rebuilt import PLANS, rebuild

FOLDER = SHARED / "vendor" / "rocket" if SHARED else ROOT / "no" / "shared"
ATOM = 16
"""Channels of a surface, bytes of a pixel in it."""
ALIGN = 64
"""A surface that the NPU writes is a multiple of it, unless it has one pixel only."""
ROOM, CONSTANTS, COMMANDS = 0x1000_0000, 0x4000_0000, 0x8000_0000
UNITS = {CNA: 1 << 0, CORE: 1 << 2, DPU: 1 << 3, DPU_RDMA: 1 << 4, PPU: 1 << 5, PPU_RDMA: 1 << 6}
"""Bit of each unit in the enable mask."""
TARGETS = {unit.target + WRITE: bit for unit, bit in UNITS.items()}
TABLE = ROOT / "drivers" / "rocket" / "ci" / "vendor-lists.txt"
PAGE = 4096
CORES = (1, 2, 3)
ONE_CORE = {*PLANS, "kgreater"}
"""Networks whose lists for several cores do not run: those that are rebuilt, and one where the
vendor left two products of WHERE out of them."""
Floats = NDArray[np.float32]
HOST: dict[str, Callable[..., Floats]] = {
    "Reshape": lambda x, *_shape: x,
    "Pow": lambda x, exponent: x**exponent,
    "Greater": lambda a, b: (a > b).astype(np.float32),
}


class NotRun(Exception):
    """A network cannot be run here; says why."""


def names() -> list[str]:
    """The networks that have command lists and an output of the vendor's simulator."""
    made = (p.name.removesuffix("_sim.npz") for p in sorted(FOLDER.glob("*_sim.npz")))
    return [name for name in made if has_lists(name)]


def has_lists(name: str) -> bool:
    words = FOLDER / f"{name}_words.json"
    if words.exists():
        return words.stat().st_size > len("[]")
    return bool(len(network(name).words))


@functools.lru_cache(maxsize=8)
def network(name: str) -> Network:
    if name in PLANS:
        return rebuild(FOLDER, name, ends)
    path = FOLDER / f"{name}.rknn"
    if not path.exists():
        raise NotRun("the .rknn file is missing, and with it weights and scales")
    return read(path)


@dataclass
class Core:
    """What two groups of registers of each unit hold: filled by turns, when the unit is started."""

    groups: dict[int, tuple[dict[int, int], dict[int, int]]] = field(
        default_factory=lambda: {target: ({}, {}) for target in TARGETS}
    )
    turns: dict[int, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))

    def complete(self, words: list[int]) -> list[int]:
        """The list with the registers that it leaves as they are in front."""
        mask = split_command(words[-1])[2]
        written = {(target, offset) for target, offset, _ in map(split_command, words)}
        before: list[int] = []
        for target, bit in TARGETS.items():
            if not mask & bit:
                continue
            group = self.groups[target][self.turns[target]]
            before += [word for offset, word in group.items() if (target, offset) not in written]
            self.turns[target] ^= 1
            for word in words:
                if word >> 48 == target:
                    group[word & 0xFFFF] = word
        return before + words


def ends(words: NDArray[np.uint64], first: int) -> list[int]:
    """The words from the first one to the one that starts the units."""
    for last in itertools.count(first):
        if int(words[last]) >> 48 == ENABLE_TARGET:
            return [int(w) for w in words[first : last + 1]]
    raise AssertionError


@dataclass(frozen=True)
class Step:
    """Tasks of one operation on one core; `operation` alone runs on the host."""

    operation: Operation
    core: int
    tasks: tuple[int, ...]


def steps(net: Network, cores: int) -> Iterator[Step]:
    """What the vendor's runtime does, in order, on that many cores.

    The table of tasks has all of core 0 first, then all of core 1; each waits for the others
    between operations.
    """
    which = (slice(0, 1), slice(1, 3), slice(3, 6))[cores - 1]
    counts = [list(operation.counts[which]) for operation in net.operations]
    if cores == 1:
        counts = [[n + o.tables] for (n,), o in zip(counts, net.operations, strict=True)]
    at = [net.starts[cores - 1] + sum(sum(n[:core]) for n in counts) for core in range(cores)]
    for number, (operation, mine) in enumerate(zip(net.operations, counts, strict=True)):
        if not any(mine):
            yield Step(operation, 0, ())
        for core, count in enumerate(mine):
            tasks = tuple(range(at[core], at[core] + count))
            assert all(net.tasks[t].operation == number for t in tasks), (net.name, operation)
            at[core] += count
            if count:
                yield Step(operation, core, tasks)
    stop = (*net.starts, len(net.tasks))[cores]
    assert at[-1] == stop, f"{net.name}: {stop - at[-1]} tasks belong to no operation"


class Bench:
    """A network in device memory: constants, a room for the other tensors, and its lists."""

    def __init__(self, net: Network) -> None:
        self.net, self.memory = net, DeviceMemory()
        self.machine = Machine(RK3588, self.memory)
        self.room = np.zeros(net.room, np.uint8)
        self.memory.map(ROOM, self.room, "tensors")
        self.addresses: dict[str, int] = {}
        place = CONSTANTS
        for t in net.tensors:
            if t.data is None or t.name in ("", "task", "regcmd"):
                self.addresses[t.name] = ROOM + t.offset
                continue
            self.addresses[t.name] = place
            self.memory.map(place, np.frombuffer(bytearray(t.data), np.uint8), t.name)
            place += (len(t.data) // PAGE + 2) * PAGE
        self.words = net.words.copy()
        for r in net.relocations:
            self.words[r.word] += np.uint64(self.addresses[r.tensor] << 16)

    def run(self, inputs: dict[str, Floats], cores: int = 1) -> list[NDArray[np.int8]]:
        """The outputs, quantised, in NCHW. Raises SimulatorFault, or NotRun for host operations."""
        self.room[:] = 0
        for tensor in self.net.inputs:
            self.store(tensor, quantised(tensor, inputs[tensor.name]))
        states = [Core() for _ in range(cores)]
        for step in steps(self.net, cores):
            if not step.tasks:
                self.host(step.operation)
            for number in step.tasks:
                words = states[step.core].complete(ends(self.words, self.net.tasks[number].first))
                self.task(words, step, f"task {number} ({step.operation.name})")
        return [self.load(tensor) for tensor in self.net.outputs]

    def task(self, words: list[int], step: Step, where: str) -> None:
        self.memory.map(COMMANDS, np.array(words, "<u8").view(np.uint8), "commands")
        try:
            self.machine.run_task(COMMANDS, len(words), step.core, where)
        finally:
            self.memory.unmap(COMMANDS)

    def host(self, operation: Operation) -> None:
        """An operation that the vendor's runtime computes itself, in float."""
        if operation.kind in ("InputOperator", "OutputOperator"):
            return
        if operation.kind not in HOST:
            raise NotRun(f"{operation.kind} runs on the vendor's host, not on the NPU")
        target = self.net.tensors[operation.outputs[0]]
        given = [self.floats(self.net.tensors[i]) for i in operation.inputs]
        self.store(target, quantised(target, HOST[operation.kind](*given)))

    def floats(self, tensor: Tensor) -> Floats:
        """What a tensor means; constants are float already, or shapes."""
        if tensor.data is not None or tensor.scale is None:
            return np.frombuffer(tensor.data or b"", "<f4")
        return (self.load(tensor).astype(np.float32) - tensor.zero) * np.float32(tensor.scale)

    def bytes(self, tensor: Tensor, size: int) -> NDArray[np.uint8]:
        start = self.addresses[tensor.name] - ROOM
        assert 0 <= start <= start + size <= len(self.room), tensor
        return self.room[start : start + size]

    def store(self, tensor: Tensor, values: NDArray[np.int8]) -> None:
        """Values in NCHW go to where the tensor lies, in its own layout."""
        if tensor.layout != LAYOUT_SURFACES:
            self.bytes(tensor, values.size)[:] = values.reshape(-1).view(np.uint8)
            return
        _, surfaces, height, width, wide = tensor.native
        if wide < ATOM:  # channels beside each other, rows of whole 16 pixels
            rows = self.bytes(tensor, tensor.size).view(np.int8).reshape(height, -1, wide)
            rows[:, :width] = values.reshape(wide, height, width).transpose(1, 2, 0)
            return
        grid = np.zeros((surfaces * wide, height, width), np.int8)
        grid[: tensor.shape[1]] = values.reshape(tensor.shape[1], height, width)
        moved = grid.reshape(surfaces, wide, height, width).transpose(0, 2, 3, 1)
        self.bytes(tensor, moved.size)[:] = moved.reshape(-1).view(np.uint8)

    def load(self, tensor: Tensor) -> NDArray[np.int8]:
        if tensor.layout != LAYOUT_SURFACES:
            return self.bytes(tensor, int(np.prod(tensor.shape))).view(np.int8).copy()
        _, surfaces, height, width, wide = tensor.native
        assert wide == ATOM, tensor
        each = height * width * ATOM
        pitch = each if height * width == 1 else -(-each // ALIGN) * ALIGN
        whole = self.bytes(tensor, surfaces * pitch).reshape(surfaces, pitch)[:, :each]
        grid = whole.view(np.int8).reshape(surfaces, height, width, ATOM).transpose(0, 3, 1, 2)
        values: NDArray[np.int8] = grid.reshape(-1, height, width)[: tensor.shape[1]].copy()
        return values


def quantised(tensor: Tensor, values: Floats) -> NDArray[np.int8]:
    if tensor.code != INT8 or tensor.scale is None:
        kind = "float16" if tensor.code == FLOAT16 else f"type {tensor.code}"
        raise NotRun(f"tensor {tensor.name} is {kind}, the simulator models 8 bits")
    exact = np.rint(values.astype(np.float64) / tensor.scale) + tensor.zero
    kept: NDArray[np.int8] = np.clip(exact, -128, 127).astype(np.int8)
    return kept


@dataclass(frozen=True)
class Outcome:
    """Elements of all outputs, how many differ from the vendor's, and by how many steps at most."""

    elements: int
    different: int
    worst: int

    def __str__(self) -> str:
        return f"{self.different} of {self.elements} differ, by {self.worst} at most"


def outcome(name: str, cores: int = 1) -> Outcome:
    """Run a network's lists for that many cores. Raises NotRun, SimulatorFault."""
    net = network(name)
    with np.load(FOLDER / f"{name}_sim.npz") as sim:
        given = {t.name: sim[t.name] for t in net.inputs}
        wanted = [sim["y" if "y" in sim else f"y{i}"] for i in range(len(net.outputs))]
    worst = different = elements = 0
    for tensor, ours, theirs in zip(net.outputs, Bench(net).run(given, cores), wanted, strict=True):
        off = np.abs(ours.reshape(-1).astype(int) - quantised(tensor, theirs.reshape(-1)))
        worst, elements = max(worst, int(off.max())), elements + ours.size
        different += int(np.count_nonzero(off))
    return Outcome(elements, different, worst)


def reason(name: str) -> str:
    """Why a network's lists do not give the vendor's outputs within one step; empty if they do."""
    for cores in CORES[: 1 if name in ONE_CORE else 3]:
        try:
            found = outcome(name, cores)
        except NotRun as cause:
            return str(cause)
        except SimulatorFault as fault:
            return f"{cores} core{'s' * (cores > 1)}: {fault}"
        if found.worst > 1:
            return f"{cores} core{'s' * (cores > 1)}: {found}"
    return ""


def expected() -> dict[str, str]:
    """The table of networks that do not come out right: name -> reason."""
    lines = [line for line in TABLE.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split(": ", 1) for line in lines)


def main() -> int:
    """Run all lists and print what comes out; with --write put the reasons into the table."""
    chosen = names()
    reasons = {name: reason(name) for name in chosen}
    failing = [f"{name}: {why}\n" for name, why in reasons.items() if why]
    print(*failing, sep="", end="")
    print(f"{len(chosen) - len(failing)} of {len(chosen)} networks within 1 step")
    good = [network(name) for name, why in reasons.items() if not why]
    print(f"they have {sum(len(net.tasks) for net in good)} command lists, for 1, 2 and 3 cores")
    if "--write" in sys.argv:
        head = "".join(x for x in TABLE.read_text().splitlines(True) if x[0] in "#\n")
        TABLE.write_text(head + "".join(failing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
