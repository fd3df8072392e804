"""A compiled subgraph for the ABACUS: one block of device memory, and its bytes in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from teflon.ir.types import TensorType
from teflon.pipe import Data, Program
from teflon_abacus.isa import ABACUS1
from teflon_common import program as container

DRIVER, VERSION = "abacus", "1"


@dataclass(frozen=True)
class AbacusProgram(Program):
    """Constants, commands and room for tensors; the block may lie anywhere in device memory."""

    image: bytes  # constants and commands
    size: int  # of the whole block; the tensors lie behind the image
    code: int  # where the commands begin in the image; they end with it
    commands: int
    inputs: Sequence[TensorType]
    outputs: Sequence[TensorType]
    in_places: tuple[int, ...]
    out_places: tuple[int, ...]
    macs: int
    driver: str = DRIVER
    chip: str = ABACUS1.name

    @cached_property
    def statistics(self) -> dict[str, int]:
        """Counts and sizes."""
        words = (len(self.image) - self.code) // 4
        return {"tasks": self.commands, "jobs": 1, "command_words": words,
                "coefficient_bytes": self.code, "macs": self.macs}  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return the program in the container that all drivers share."""
        header = {
            "driver": DRIVER, "version": VERSION, "chip": self.chip, "strategy": "",
            "size": self.size, "code": self.code, "commands": self.commands, "macs": self.macs,
            "ins": [container.type_to_json(t) for t in self.inputs],
            "outs": [container.type_to_json(t) for t in self.outputs],
            "in_places": self.in_places, "out_places": self.out_places,
        }  # fmt: skip
        return container.pack(header, {"image": np.frombuffer(self.image, np.uint8)})


def from_bytes(data: Data) -> AbacusProgram:
    """Return the program that `to_bytes` wrote.

    Raises ProgramError for bytes that are damaged or made for another chip, driver or version.
    """
    header, arrays = container.unpack(data, DRIVER, VERSION)
    container.refuse_other("chip", header["chip"], ABACUS1.name)
    with container.reading():
        types = [[container.type_from_json(t) for t in header[k]] for k in ("ins", "outs")]
        places = (tuple(header["in_places"]), tuple(header["out_places"]))
        return AbacusProgram(
            arrays["image"].tobytes(), header["size"], header["code"], header["commands"],
            tuple(types[0]), tuple(types[1]), *places, header["macs"],
        )  # fmt: skip
