"""The description of an ABACUS: what it can run, its compiler, its programs as text."""

from __future__ import annotations

from teflon.errors import ProgramError, UnsupportedOperation
from teflon.ir.graph import Graph, Op
from teflon.pipe import Data, Device, Program
from teflon_abacus.compiler import RULES, compiled
from teflon_abacus.isa import ABACUS1, WORDS, Command, Opcode
from teflon_abacus.program import DRIVER, AbacusProgram, from_bytes


class AbacusDevice(Device):
    """The chip. It has no state, so any number of threads may use it."""

    driver = DRIVER
    chip = ABACUS1.name

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        """Return why an operation cannot run here; an empty list where it can."""
        return RULES.reasons(op, ABACUS1)

    def compile(self, subgraph: Graph) -> Program:
        """Return the program of a graph whose operations are all supported."""
        for op in subgraph.ops:
            if reasons := self.unsupported(op, subgraph):
                raise UnsupportedOperation(op.title, reasons)
        return compiled(subgraph, ABACUS1)

    def load(self, data: Data) -> Program:
        """Return the program that `to_bytes` wrote."""
        return from_bytes(data)

    def describe(self, program: Program) -> str:
        """Return the commands as text."""
        if not isinstance(program, AbacusProgram):
            raise ProgramError(
                f"abacus: program is for {program.chip!r}, must be for {self.chip!r}"
            )
        code = program.image[program.code :]
        rows = [Command(*words) for words in WORDS.iter_unpack(code)]
        return "\n".join(f"{Opcode(row.opcode).name} {row}" for row in rows)
