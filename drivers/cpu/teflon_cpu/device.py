"""The compiler half of the driver: there is nothing to compile, a program is its subgraph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from teflon.errors import ModelError, ProgramError, UnsupportedOperation, VerifyError
from teflon.ir.graph import Graph, Op
from teflon.ir.text import parse, to_text
from teflon.ir.types import TensorType
from teflon.pipe import Cost, Data, Device, Program
from teflon_common import program
from teflon_common.processor import Step
from teflon_cpu.scales import too_far

DRIVER = "cpu"
CHIP = "cpu"
VERSION = "1"
"""Raised whenever the text form of an operation changes its meaning."""


class CpuDevice(Device):
    """Supports every operation that the IR can evaluate."""

    driver = DRIVER
    chip = CHIP

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        problem = too_far(op) or op.refusal
        return [problem] if problem else []

    def compile(self, subgraph: Graph) -> Program:
        for op in subgraph.ops:
            if reasons := self.unsupported(op, subgraph):
                raise UnsupportedOperation(op.title, reasons)
        return CpuProgram(subgraph)

    def load(self, data: Data) -> Program:
        header, sections = program.unpack(data, DRIVER, VERSION)
        program.refuse_other("chip", header["chip"], CHIP)
        try:
            text = sections["text"].tobytes().decode()
            return CpuProgram(parse(text, "program").verify())
        except (KeyError, UnicodeDecodeError, ModelError, VerifyError) as error:
            raise ProgramError(f"program: its graph cannot be read: {error}") from error

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, CpuProgram):
            raise ProgramError(f"cpu: cannot estimate a program of driver {program.driver}")
        return [Step.of(op).cost() for op in program.graph.ops]

    def describe(self, program: Program) -> str:
        if not isinstance(program, CpuProgram):
            return super().describe(program)
        return to_text(program.graph, data=False)


@dataclass(frozen=True, eq=False)
class CpuProgram(Program):
    """A graph; serialised as its text form."""

    graph: Graph
    driver: str = DRIVER
    chip: str = CHIP

    @cached_property
    def inputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(v.type for v in self.graph.inputs)

    @cached_property
    def outputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(v.type for v in self.graph.outputs)

    @property
    def statistics(self) -> dict[str, int]:
        return {
            "tasks": len(self.graph.ops),
            "jobs": 1,
            "command_words": 0,
            "coefficient_bytes": sum(v.type.size_bytes for v in self.graph.constants),
            "macs": sum(op.macs for op in self.graph.ops),
        }

    def to_bytes(self) -> bytes:
        text = np.frombuffer(to_text(self.graph).encode("utf-8"), np.uint8)
        header = {"driver": DRIVER, "version": VERSION, "chip": CHIP, "strategy": ""}
        return program.pack(header, {"text": text})
