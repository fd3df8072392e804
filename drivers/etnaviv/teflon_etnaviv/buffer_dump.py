"""TEFLON_DEBUG=bos: buffers as files, named as Mesa's ETNA_MESA_DEBUG=dump_shaders names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from teflon.debug import enabled

# Ref: docs/hardware/etnaviv.md section 9 (ETNA_MESA_DEBUG)

KINDS = {
    "coefficients": "compressed",
    "nn_config": "nn",
    "tp_config": "tp",
    "lut": "lut",
    "input": "input",
    "output": "output",
    "cmd": "cmd",
}
"""Role of a buffer -> Mesa's word for it."""


def dump(role: str, program: int, number: int, data: npt.NDArray[np.uint8] | bytearray) -> None:
    """Write a buffer into the working directory, unless its role has no file (tensors).

    program: which program of the context, from 0; number: which buffer or port of that role.
    """
    if enabled("bos") and role in KINDS:
        Path(f"mesa-{KINDS[role]}-{program:03}-{number:03}.bin").write_bytes(bytes(data))
