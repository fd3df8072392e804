"""Drivers whose device is this computer's processor: their model of time, inferences done at once.

Ref: none measured. One core of an Arm board with TFLite-like kernels is assumed to do four 8-bit
multiply-accumulates and one byte of other work per nanosecond, and to need five microseconds per
operation. The benchmarks compare whole inferences, in which this part is small.
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon.errors import DeviceError
from teflon.ir.graph import Op
from teflon.ir.types import Array
from teflon.pipe import HOST, Cost, Fence

MACS_PER_MS = 4e6
BYTES_PER_MS = 1e6
OPERATION_MS = 0.005


@dataclass(frozen=True)
class Step:
    """One operation of a program, for people and for the model of time; sizes in bytes."""

    title: str
    where: str
    macs: int
    read: int
    written: int
    constant: int

    @classmethod
    def of(cls, op: Op) -> Step:
        present = op.inputs_present
        return cls(
            op.title,
            op.where,
            op.macs,
            sum(v.type.size_bytes for v in present),
            sum(v.type.size_bytes for v in op.results),
            sum(v.type.size_bytes for v in present if v.is_constant),
        )

    def cost(self) -> Cost:
        work = self.macs / MACS_PER_MS + (self.read + self.written) / BYTES_PER_MS
        return Cost(
            name=self.where,
            engine="cpu",
            milliseconds={HOST: work + OPERATION_MS},
            macs=self.macs,
            dram_read=self.read,
            dram_written=self.written,
            coefficient_bytes=self.constant,
        )


def no_memory(driver: str) -> DeviceError:
    """Return the error for a program or an inference that this machine has no memory for."""
    return DeviceError(
        f"{driver}: the machine is out of memory, must have some left (close other programs)"
    )


@dataclass(frozen=True)
class DoneFence(Fence):
    """An inference that is finished already."""

    outputs: list[Array]

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        return self.outputs
