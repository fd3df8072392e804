"""A small model in its own format as a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from teflon.ir.held import HELD
from teflon.ir.schema import Malformed, Number, Read, Table, Text, shown
from teflon.ir.types import TensorType
from teflon.pipe import Data, Program
from teflon_common import program as format
from teflon_common.hosted.host import Name
from teflon_common.processor import Step
from teflon_common.program import TYPE


@dataclass(frozen=True)
class Port:
    """An input or output: its type, its name in the model and what the runtime calls it."""

    type: TensorType
    name: str
    runtime_name: Name

    @property
    def is_held(self) -> bool:
        """Whether it is the content of a state that the runtime holds, and no tensor."""
        return self.runtime_name == HELD


def _name(plain: Any) -> Name:
    """Return what a runtime calls a tensor. Raises Malformed."""
    field = Number(HELD, (1 << 31) - 1) if type(plain) is int else Text()
    if field.wrong([plain], {}, {}):
        raise Malformed(
            f"is {shown(plain)}, must be text or {Number(HELD, (1 << 31) - 1).must({})}"
        )
    found: Name = plain
    return found


_PORTS = Table(
    "port", Port, type=TYPE, name=Text(), runtime_name=Read(_name, lambda name: name, "a name")
)
_STEPS = Table(
    "operation",
    Step,
    title=Text(),
    where=Text(),
    macs=Number(),
    read=Number(),
    written=Number(),
    constant=Number(),
)


@dataclass(frozen=True, eq=False)
class HostedProgram(Program):
    """A small model in its own format, and which of its tensors are inputs and outputs."""

    driver: str
    chip: str
    version: str
    content: Data
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    steps: tuple[Step, ...]

    @cached_property
    def inputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(port.type for port in self.input_ports)

    @cached_property
    def outputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(port.type for port in self.output_ports)

    @cached_property
    def model(self) -> bytes:
        """The small model as bytes, which all sessions share."""
        return bytes(self.content)

    @property
    def statistics(self) -> dict[str, int]:
        return {
            "tasks": len(self.steps),
            "jobs": 1,
            "command_words": 0,
            "coefficient_bytes": len(self.content),
            "macs": sum(step.macs for step in self.steps),
        }

    @property
    def title(self) -> str:
        """How messages name the program: its first operation, and how many follow."""
        return title_of([step.title for step in self.steps])

    def to_bytes(self) -> bytes:
        header = {
            "driver": self.driver,
            "version": self.version,
            "chip": self.chip,
            "strategy": "",
            "inputs": _PORTS.write_named(self.input_ports),
            "outputs": _PORTS.write_named(self.output_ports),
            "steps": _STEPS.write(self.steps),
        }
        return format.pack(header, {"model": np.frombuffer(self.content, np.uint8)})

    @classmethod
    def from_bytes(cls, data: Data, driver: str, chip: str, version: str) -> HostedProgram:
        """Return the program that `to_bytes` wrote. Raises ProgramError."""
        header, arrays = format.unpack(data, driver, version)
        with format.reading():
            format.refuse_other("chip", header["chip"], chip)
            content = arrays["model"]
            if content.dtype != np.uint8 or content.ndim != 1:
                raise Malformed(f"its model is {content.dtype}, must be bytes")
            return cls(
                driver,
                chip,
                version,
                content.data,
                tuple(_PORTS.read(header["inputs"])),
                tuple(_PORTS.read(header["outputs"])),
                tuple(_STEPS.read(header["steps"])),
            )


def title_of(titles: Sequence[str]) -> str:
    """Return how messages name these operations."""
    first = titles[0] if titles else "a part without operations"
    return first if len(titles) < 2 else f"{first} and {len(titles) - 1} more"
