# Ref: docs/hardware/rocket_vendor.md §2 (elementwise)
"""What a pass makes of bytes: a table of all bytes, or of all pairs, by the DPU's stages."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cube import ATOM
from ..dpu import DpuTask, Write
from ..operands import ChannelOperands
from ..post import Arithmetic, NoClip, values
from ..tables import Tables

_BYTES = np.arange(-128, 128, dtype=np.int8)
_NOWHERE = Write(0, 0, 0)


def arithmetic(task: DpuTask, operands: ChannelOperands, tables: Tables | None) -> Arithmetic:
    """Return the arithmetic of a pass: where and how much it writes does not count."""
    alike = replace(task, write=_NOWHERE, width=1, height=1, channels=ATOM, padded_channels=ATOM)
    return Arithmetic(NoClip(), alike, operands, tables)


def results(of: Arithmetic) -> NDArray[np.int8]:
    """Return what becomes of bytes, counted from -128 on: int8 [1 or channels, 256].

    With an operand [1 or channels, 65536]: its byte counts 256 times as much. Raises SimulatorFault
    where a value between the stages leaves 32 bits, for any byte.
    """
    if any(stage.add == "stream" or stage.streamed for stage in (of.dpu.bs, of.dpu.bn)):
        return _made(of)
    return _shared(of.dpu, of.tables)


@functools.lru_cache(maxsize=512)
def _shared(task: DpuTask, tables: Tables | None) -> NDArray[np.int8]:
    """Return results of a pass without streams, which many tasks have alike."""
    return _made(Arithmetic(NoClip(), task, ChannelOperands(), tables))


def _made(of: Arithmetic) -> NDArray[np.int8]:
    if of.dpu.ew is None:
        made = values(of, _BYTES[:, None], None)
    else:
        first, second = np.tile(_BYTES, 256)[:, None], np.repeat(_BYTES, 256)[:, None]
        made = values(of, first, second)
    return np.ascontiguousarray(made.T)
