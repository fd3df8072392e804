# Ref: docs/hardware/rocket.md §7.1 (words 26, 35, 62, 112, 114, 118, 126), §10.2
"""Which commands hold a device address, and what the buffer there is for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from teflon_rocket.registers import CNA, DPU, DPU_RDMA, PC, PPU, PPU_RDMA, WRITE

ROLES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (block.target + WRITE, register.offset): role
        for block, register, role in (
            (CNA, CNA.FEATURE_DATA_ADDR, "input"),
            (CNA, CNA.DCOMP_ADDR0, "weights"),
            (DPU, DPU.DST_BASE_ADDR, "output"),
            (DPU_RDMA, DPU_RDMA.RDMA_SRC_BASE_ADDR, "rdma_src"),
            (DPU_RDMA, DPU_RDMA.RDMA_BS_BASE_ADDR, "biases"),
            (DPU_RDMA, DPU_RDMA.RDMA_BN_BASE_ADDR, "factors"),
            (DPU_RDMA, DPU_RDMA.RDMA_EW_BASE_ADDR, "addition"),
            (PPU, PPU.DST_BASE_ADDR, "output"),
            (PPU_RDMA, PPU_RDMA.RDMA_SRC_BASE_ADDR, "input"),
            (PC, PC.BASE_ADDRESS, "next_regcmd"),
        )
    }
)
"""(target as in a command, register offset) -> role of the buffer whose address it holds."""


def addresses(commands: npt.NDArray[np.uint8]) -> list[tuple[int, str, int]]:
    """Return (byte offset, role, address) of every command that holds an address other than 0."""
    words = commands[: len(commands) // 8 * 8].view("<u8")
    keys = words >> np.uint64(48) << np.uint64(16) | words & np.uint64(0xFFFF)
    known = np.array([target << 16 | offset for target, offset in ROLES], np.uint64)
    found = np.nonzero(np.isin(keys, known))[0]
    return [
        (8 * index, ROLES[key >> 16, key & 0xFFFF], value)
        for index, key, value in zip(
            found.tolist(), keys[found].tolist(),
            (words[found] >> np.uint64(16) & np.uint64(0xFFFFFFFF)).tolist(), strict=True,
        )
        if value
    ]  # fmt: skip
