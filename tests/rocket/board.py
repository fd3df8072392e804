"""A fake kernel with a machine of one instruction, and a program for it."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Self

import numpy as np

from teflon.errors import SimulatorFault
from teflon.ir.types import Array, DType, Quantization, TensorType
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_common.program import Buffer
from teflon_rocket.addresses import addresses
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import Job, Port, Reloc, RocketProgram, Task
from teflon_rocket.registers import CNA, DPU, command
from teflon_rocket.simulator.jobs import TaskRunner
from teflon_rocket.simulator.kernel import RocketKernel

SHAPE = (1, 4, 4, 16)
TYPE = TensorType(DType.UINT8, SHAPE, Quantization.per_tensor(0.5, 128))
SIZE = 4 * 4 * 16


class AddWeights(TaskRunner):
    """A machine of one instruction: output = input + the first byte of the weights."""

    def __init__(self, memory: DeviceMemory) -> None:
        self.memory = memory
        self.go = threading.Event()
        self.go.set()
        self.fault = ""
        self.runs = 0

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        assert self.go.wait(10)
        self.runs += 1
        if self.fault:
            raise SimulatorFault(f"{where}: {self.fault}")
        commands = self.memory.view(regcmd_address, 8 * count, where)
        at = {role: address for _, role, address in addresses(commands)}
        weight = self.memory.view(at["weights"], 1, where)[0]
        source = self.memory.view(at["input"], SIZE, where)
        self.memory.view(at["output"], SIZE, where)[:] = source + weight


def program(**changes: Any) -> RocketProgram:
    """Return a program of two jobs: middle = input + 3, output = middle + 3."""
    words = [
        command(register.unpack(0))
        for register in (CNA.FEATURE_DATA_ADDR, CNA.DCOMP_ADDR0, DPU.DST_BASE_ADDR)
    ]
    commands = np.array(words, "<u8").tobytes()
    tensor = [Buffer("tensor", 2 * SIZE, None, name) for name in ("in", "middle", "out")]
    lists = [Buffer("regcmd", len(commands), commands, f"op {n}") for n in range(2)]
    relocs = [
        Reloc(4 + op, 8 * word, target, 0)
        for op, (source, out) in enumerate(((1, 2), (2, 3)))
        for word, target in enumerate((source, 0, out))
    ]
    made = RocketProgram(
        chip="rk3588",
        strategy="exact",
        buffers=(Buffer("weights", 64, bytes([3, 1, 4]), "w"), *tensor, *lists),
        relocs=tuple(relocs),
        jobs=(
            Job((Task(4, 0, 3),), (1,), (2,), "first"),
            Job((Task(5, 0, 3),), (2,), (3,), "second"),
        ),
        input_ports=(Port(TYPE, 1, "surfaces"),),
        output_ports=(Port(TYPE, 3, "surfaces"),),
    )
    return dataclasses.replace(made, **changes)


class Board:
    """A context on a fake kernel, and what is behind it."""

    def __init__(self, seconds: float | None = None, record: str = "", **options: Any) -> None:
        self.machines: list[AddWeights] = []
        self.kernel = RocketKernel(RK3588, machine=self.make, **options)
        device = RocketDevice("rk3588")
        self.context = RocketContext(device, FakeWinsys(self.kernel), seconds, record)

    def make(self, memory: DeviceMemory) -> TaskRunner:
        self.machines.append(AddWeights(memory))
        return self.machines[-1]

    @property
    def machine(self) -> AddWeights:
        return self.machines[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.go.set()
        self.context.close()


def image(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


def right(output: Array, source: Array) -> bool:
    return bool((output == source + np.uint8(6)).all())


def ioctls(board: Board) -> list[str]:
    return [entry["ioctl"] for entry in board.kernel.log]
