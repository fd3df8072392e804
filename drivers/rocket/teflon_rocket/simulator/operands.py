# Ref: docs/hardware/rocket.md §8.4
# Ref: docs/hardware/rocket_vendor.md §1 (operand stream per channel, PReLU), §2 (constants)
"""The streams of operands per channel that BRDMA reads for BS and NRDMA for BN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon.timing.schedule import Span
from teflon_common.memory import DeviceMemory
from teflon_common.registers import Register
from teflon_rocket.registers import DPU, DPU_RDMA

from .cube import aligned
from .registerfile import RegisterFile

NONE, ADD, MULTIPLIER, GROUPED = 0, 1, 4, 7
"""What DATA_USE may be: nothing; int32 for each channel; int16 factors for each channel; or, of
BRDMA, both with the zero points, in groups of eight channels."""
_GROUP = np.dtype([("bias", "<i4", 8), ("compensation", "<i2", 8), ("multiplier", "<u2", 8)])
"""Eight channels of a grouped stream."""
_PLAIN = {NONE: 0, ADD: 4, MULTIPLIER: 2}
"""Bytes of a channel of a stream that is a plain array."""


@dataclass(frozen=True)
class ChannelOperands:
    """Per-channel operands of BS and BN, one entry per output channel; None where not streamed."""

    bias: NDArray[np.int64] | None = None
    compensation: NDArray[np.int64] | None = None
    multiplier: NDArray[np.int64] | None = None
    bn_add: NDArray[np.int64] | None = None
    bn_multiplier: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Stream:
    """A stream in memory: where, what DATA_USE says, and for how many channels.

    channels: of the cube. padded: with those that it is padded by; groups cover them as well.
    """

    address: int
    use: int
    channels: int
    padded: int
    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        if self.use == GROUPED:
            return -(-self.padded // 8) * _GROUP.itemsize
        return self.channels * _PLAIN[self.use]

    @property
    def span(self) -> Span:
        """Where it lies."""
        return Span(self.address, self.address + self.size)

    def fetch(self, memory: DeviceMemory) -> bytes:
        """Return its bytes; none where DATA_USE is 0."""
        if self.use == NONE:
            return b""
        return memory.view(self.address, self.size, self.name).tobytes()


def bs_stream(registers: RegisterFile) -> Stream:
    """Return what BRDMA reads; raises SimulatorFault for what is not modelled."""
    use = registers[DPU_RDMA.RDMA_BRDMA_CFG].BRDMA_DATA_USE
    if use not in (NONE, ADD, MULTIPLIER, GROUPED):
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_BRDMA_CFG: BRDMA_DATA_USE is {use}, must be 0, 1 (biases), 4"
            " (multipliers) or 7 (biases, zero points and multipliers); others are not modelled"
        )
    address = registers[DPU_RDMA.RDMA_BS_BASE_ADDR].BS_BASE_ADDR
    return _stream(registers, address, use, DPU_RDMA.RDMA_BS_BASE_ADDR)


def bn_stream(registers: RegisterFile) -> Stream:
    """Return what NRDMA reads; raises SimulatorFault for what is not modelled."""
    use = registers[DPU_RDMA.RDMA_NRDMA_CFG].NRDMA_DATA_USE
    if use not in (NONE, ADD, MULTIPLIER):
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_NRDMA_CFG: NRDMA_DATA_USE is {use}, must be 0, 1 (numbers to add) or 4"
            " (multipliers); others are not modelled"
        )
    address = registers[DPU_RDMA.RDMA_BN_BASE_ADDR].BN_BASE_ADDR
    return _stream(registers, address, use, DPU_RDMA.RDMA_BN_BASE_ADDR)


def _stream(registers: RegisterFile, address: int, use: int, register: type[Register]) -> Stream:
    aligned(address, register.title())
    channels = registers[DPU.DATA_CUBE_CHANNEL].ORIG_CHANNEL
    padded = registers[DPU_RDMA.RDMA_DATA_CUBE_CHANNEL].CHANNEL
    return Stream(address, use, channels, padded, register.title())


def read(bs: bytes, bn: bytes, streams: tuple[Stream, Stream]) -> ChannelOperands:
    """Return the operands in the streams of BS and BN.

    Raises SimulatorFault for a factor whose sign is not known.
    """
    add, compensation, multiplier = _read(bs, streams[0])
    bn_add, _, bn_multiplier = _read(bn, streams[1])
    return ChannelOperands(add, compensation, multiplier, bn_add, bn_multiplier)


_Operand = NDArray[np.int64] | None


def _read(stream: bytes, of: Stream) -> tuple[_Operand, _Operand, _Operand]:
    if of.use == NONE:
        return None, None, None
    if of.use == ADD:
        return np.frombuffer(stream, "<i4").astype(np.int64), None, None
    if of.use == MULTIPLIER:
        return None, None, np.frombuffer(stream, "<i2").astype(np.int64)
    groups = np.frombuffer(stream, _GROUP)
    bias, compensation, multiplier = (
        groups[name].reshape(-1)[: of.channels].astype(np.int64) for name in _GROUP.names or ()
    )
    worst = int(multiplier.argmax())
    if multiplier[worst] >= 1 << 15:
        raise SimulatorFault(
            f"{of.name}: the multiplier of channel {worst} is #{int(multiplier[worst]):x}, must be"
            " below #8000 (its sign is not known)"
        )
    return bias, compensation, multiplier
