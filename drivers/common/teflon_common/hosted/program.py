"""A small model in its own format as a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from teflon.ir.held import HELD
from teflon.ir.types import TensorType
from teflon.pipe import Data, Program
from teflon_common import program as format
from teflon_common.hosted.host import Name
from teflon_common.processor import Step


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
            "inputs": [format.port_to_json(port) for port in self.input_ports],
            "outputs": [format.port_to_json(port) for port in self.output_ports],
            "steps": [list(vars(step).values()) for step in self.steps],
        }
        return format.pack(header, {"model": np.frombuffer(self.content, np.uint8)})

    @classmethod
    def from_bytes(cls, data: Data, driver: str, chip: str, version: str) -> HostedProgram:
        """Return the program that `to_bytes` wrote. Raises ProgramError."""
        header, arrays = format.unpack(data, driver, version)
        with format.reading():
            format.refuse_other("chip", header["chip"], chip)
            return cls(
                driver,
                chip,
                version,
                arrays["model"].reshape(-1).view(np.uint8).data,
                tuple(_port(plain) for plain in header["inputs"]),
                tuple(_port(plain) for plain in header["outputs"]),
                tuple(_step(*row) for row in header["steps"]),
            )


def _port(plain: Mapping[str, Any]) -> Port:
    port = format.port_from_json(Port, plain)
    if not isinstance(port.runtime_name, int | str) or not isinstance(port.name, str):
        raise ValueError(f"a port is called {port.runtime_name!r}")
    return port


def _step(title: str, where: str, *counts: int) -> Step:
    if not (isinstance(title, str) and isinstance(where, str)):
        raise TypeError("an operation's name is no text")
    return Step(title, where, *(int(count) for count in counts))


def title_of(titles: Sequence[str]) -> str:
    """Return how messages name these operations."""
    first = titles[0] if titles else "a part without operations"
    return first if len(titles) < 2 else f"{first} and {len(titles) - 1} more"
