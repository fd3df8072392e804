"""TEFLON_DEBUG=bos: buffers as files, named as Mesa's ROCKET_DEBUG=dump_bos names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from teflon.debug import enabled

# Ref: docs/hardware/rocket.md §2.3


def dump(kind: str, program: int, number: int, memory: npt.NDArray[np.uint8]) -> None:
    """Write a buffer into the working directory: kind is a buffer's role, or input, output.

    program: which program of the context, from 0; number: which buffer or port of that kind.
    """
    if enabled("bos"):
        Path(f"mesa-{kind}-{program:03}-{number:03}.bin").write_bytes(memory.tobytes())
