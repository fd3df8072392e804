"""The family's NPUs as the frontends see them: what they can run, and the compiler for them."""

from __future__ import annotations

import dataclasses
import difflib
import struct
from collections.abc import Callable, Mapping, Sequence

from teflon.errors import OptionError, ProgramError
from teflon.ir.graph import Graph, Op
from teflon.pipe import Cost, Data, Device, Program
from teflon_common.registers import Descriptor
from teflon_etnaviv import checks, chips, states, timing
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.doubts import doubts
from teflon_etnaviv.emit import EXACT, MESA, STRATEGIES, compile_graph
from teflon_etnaviv.program import DRIVER, STREAM, VERSION, EtnavivProgram, Launch


class EtnavivDevice(Device):
    """One chip of the family; stateless."""

    driver = DRIVER

    def __init__(self, chip: str, options: Mapping[str, str] | None = None) -> None:
        """Raises DriverUnavailable for a chip that is not known, OptionError for a bad option."""
        given = options or {}
        self.chip = chip
        self.strategy = given.get("strategy", EXACT)
        if self.strategy not in STRATEGIES:
            near = difflib.get_close_matches(self.strategy, STRATEGIES, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise OptionError(
                f"etnaviv: strategy is {self.strategy!r}, must be one of"
                f" {', '.join(STRATEGIES)}{hint}"
            )
        self._shares = given.get("arena", "on") != "off"
        self._variants = [name for name in _VARIANTS if given.get(name, "off") == "on"]
        self.description = _described(chips.chip(chip), self.strategy, self._variants)

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return checks.reasons(op, self.description, self.strategy)

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        return doubts(op, self.description) if self.strategy == MESA else []

    def compile(self, subgraph: Graph) -> EtnavivProgram:
        return compile_graph(subgraph, self.description, self.strategy, self._shares)

    def signature(self) -> str:
        arena = [] if self._shares else ["arena off"]
        return " ".join([str(VERSION), self.strategy, *arena, *self._variants])

    def load(self, data: Data) -> EtnavivProgram:
        return EtnavivProgram.from_bytes(data, self.chip)

    def outline(self, program: Program) -> str:
        """Return buffers and ports as text, and what is started in which order."""
        if not isinstance(program, EtnavivProgram):
            return super().outline(program)
        return outline(program)

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, EtnavivProgram):
            raise ProgramError(f"etnaviv: cannot estimate a program of driver {program.driver}")
        return timing.costs(program)

    def describe(self, program: Program) -> str:
        """Return buffers, instructions and the decoded command stream as text."""
        if not isinstance(program, EtnavivProgram):
            return super().describe(program)
        return describe(program)


def _described(chip: Chip, strategy: str, wanted: Sequence[str]) -> Chip:
    """Return a chip with the variants that options switch on. Raises OptionError."""
    for name in wanted:
        wrong, change = _VARIANTS[name]
        if strategy != EXACT:
            raise OptionError(f"option {name}: strategy is {strategy}, must be {EXACT}")
        if reason := wrong(chip):
            raise OptionError(f"option {name}: chip is {chip.name}, must be {reason}")
        chip = change(chip)
    return chip


_VARIANTS: dict[str, tuple[Callable[[Chip], str], Callable[[Chip], Chip]]] = {
    "s905d3-huffman": (lambda c: "" if c.name == "s905d3" else "s905d3", chips.huffman_variant),
    "v8-image-caching": (
        lambda c: "" if c.huffman else "one with V8 coefficients",
        lambda c: dataclasses.replace(c, image_caching=True),
    ),
}
"""Formats that nobody has confirmed: what a chip must be for them, and what they make of it."""


def outline(program: EtnavivProgram) -> str:
    """Return a program as text without instructions and states."""
    lines = [f"{program.driver} program for {program.chip}, strategy {program.strategy}"]
    for number, buffer in enumerate(program.buffers):
        lines.append(f"buffer {number} {buffer.role} {buffer.name!r}: {buffer.size} bytes")
    lines += [f"task {number}: {name!r}" for number, name in enumerate(program.launches)]
    return "\n".join(lines)


def describe(program: EtnavivProgram) -> str:
    """Return a program as text: buffers, instructions, ports, states with addresses by name."""
    lines = [f"{program.driver} program for {program.chip}, strategy {program.strategy}"]
    where = {(r.buffer, r.offset): f"buffer {r.target} + {r.addend}" for r in program.relocs}
    for number, buffer in enumerate(program.buffers):
        filled = 0 if buffer.data is None else len(buffer.data)
        lines.append(
            f"buffer {number} {buffer.role} {buffer.name!r}: {buffer.size} bytes, {filled} filled"
        )
    for launch in program.instructions:
        lines += _instruction(program, launch, where)
    for what, ports in (("input", program.input_ports), ("output", program.output_ports)):
        for port in ports:
            shape = "x".join(map(str, port.type.shape))
            lines.append(
                f"{what} {port.type.dtype.value} {shape}: buffer {port.buffer} + {port.offset}"
            )
    lines += [f"uses buffer {buffer}: {_USES[flags]}" for buffer, flags in program.bos]
    words = list(struct.unpack(f"<{len(program.stream) // 4}I", program.stream))
    for write in states.decode(words):
        target = where.get((STREAM, write.offset))
        lines.append(f"  {write}" + (f" @ {target}" if target else ""))
    return "\n".join(lines)


def _instruction(
    program: EtnavivProgram, launch: Launch, where: Mapping[tuple[int, int], str]
) -> list[str]:
    """Return an instruction as text, and the words that hold addresses."""
    buffer = program.buffers[launch.buffer]
    kind = _INSTRUCTIONS[buffer.role]
    code = memoryview(buffer.data or b"")[launch.offset :]
    targets = [where.get((launch.buffer, launch.offset + 4 * n)) for n in range(kind.words)]
    return [
        f"{launch.name!r}, buffer {launch.buffer} + {launch.offset}: {kind.from_bytes(code)}",
        *(f"  word {n} @ {target}" for n, target in enumerate(targets) if target),
    ]


_INSTRUCTIONS: dict[str, type[Descriptor]] = {
    "nn_config": NNInstruction, "tp_config": TPInstruction,
}  # fmt: skip
_USES = {1: "read", 2: "written", 3: "read and written"}
