"""Run programs on an ABACUS: one in this process, or one behind a device node."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teflon.errors import DeviceError, ProgramError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Program
from teflon_abacus.device import AbacusDevice
from teflon_abacus.isa import ABACUS1, ALIGN
from teflon_abacus.machine import Machine, Node
from teflon_abacus.program import AbacusProgram


class AbacusExecutable(Executable):
    """A program that is loaded: its block lies at `base` in device memory."""

    def __init__(self, context: AbacusContext, program: AbacusProgram, base: int) -> None:
        self.program: Program = program
        self.block, self.base = program, base
        self._context = context
        self.closed = False

    def close(self) -> None:
        """Give the block back."""
        if not self.closed:
            self.closed = True
            self._context.free(self.base)


@dataclass(frozen=True)
class Done(Fence):
    """An inference that is done: the chip answers only when it has finished."""

    outputs: list[Array]

    def done(self) -> bool:
        """Whether the outputs are there."""
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        """Return the outputs."""
        return self.outputs


class AbacusContext(Context):
    """One opened chip; inferences of all threads run one after the other."""

    def __init__(self, chip: Machine | Node) -> None:
        self.device: Device = AbacusDevice()
        self._chip: Machine | Node | None = chip
        self._lock = threading.RLock()
        self._used: dict[int, int] = {}  # base -> size

    def load(self, program: Program) -> Executable:
        """Upload a program to a free block."""
        if not isinstance(program, AbacusProgram):
            raise ProgramError(f"abacus: program is for {program.chip!r}, must be for 'abacus1'")
        with self._lock:
            chip, base = self._opened(), self._free_block(program.size)
            chip.write(base, program.image)
            self._used[base] = program.size
        return AbacusExecutable(self, program, base)

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        """Copy inputs in, run, copy outputs out."""
        if not isinstance(executable, AbacusExecutable) or executable.closed:
            raise DeviceError(
                "abacus: the program is closed or of another driver, must be loaded here"
            )
        program, base = executable.block, executable.base
        with self._lock:
            chip = self._opened()
            for array, place in zip(inputs, program.in_places, strict=True):
                chip.write(base + place, array.tobytes())
            chip.run(base, base + program.code, len(program.image) - program.code)
            found = []
            for type_, place in zip(program.outputs, program.out_places, strict=True):
                data = bytearray(chip.read(base + place, type_.size_bytes))
                found.append(np.frombuffer(data, type_.dtype.numpy).reshape(type_.shape))
        return Done(found)

    def free(self, base: int) -> None:
        """Forget a block."""
        with self._lock:
            self._used.pop(base, None)

    def close(self) -> None:
        """Close the chip."""
        with self._lock:
            if self._chip is not None:
                self._chip.close()
            self._chip = None

    def _opened(self) -> Machine | Node:
        if self._chip is None:
            raise DeviceError("abacus: the context is closed, must be open")
        return self._chip

    def _free_block(self, size: int) -> int:
        """Return the first gap that is large enough."""
        base = 0
        for start in sorted(self._used):
            if base + size <= start:
                return base
            base = -(-(start + self._used[start]) // ALIGN) * ALIGN
        if base + size > ABACUS1.memory:
            free = ABACUS1.memory - base
            raise DeviceError(f"abacus: {size} bytes are needed, {free} are free")
        return base
