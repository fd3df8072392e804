"""Programs as text for people: buffers, ports, instructions, the decoded command stream."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from teflon_etnaviv import states
from teflon_etnaviv.engines import ENGINES
from teflon_etnaviv.program import STREAM, EtnavivProgram, Launch

_USES = {1: "read", 2: "written", 3: "read and written"}


def outline(program: EtnavivProgram) -> str:
    """Return a program as text without instructions and states."""
    lines = [_title(program)]
    for number, buffer in enumerate(program.buffers):
        lines.append(f"buffer {number} {buffer.role} {buffer.name!r}: {buffer.size} bytes")
    lines += [f"task {number}: {name!r}" for number, name in enumerate(program.launches)]
    lines += map(str, program.grouped)
    return "\n".join(lines)


def describe(program: EtnavivProgram) -> str:
    """Return a program as text: buffers, instructions, ports, states with addresses by name."""
    lines = [_title(program)]
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


def _title(program: EtnavivProgram) -> str:
    return f"{program.driver} program for {program.chip}, strategy {program.strategy}"


def _instruction(
    program: EtnavivProgram, launch: Launch, where: Mapping[tuple[int, int], str]
) -> list[str]:
    """Return an instruction as text, and the words that hold addresses."""
    buffer = program.buffers[launch.buffer]
    kind = ENGINES[buffer.role].instruction
    code = memoryview(buffer.data or b"")[launch.offset :]
    targets = [where.get((launch.buffer, launch.offset + 4 * n)) for n in range(kind.words)]
    return [
        f"{launch.name!r}, buffer {launch.buffer} + {launch.offset}: {kind.from_bytes(code)}",
        *(f"  word {n} @ {target}" for n, target in enumerate(targets) if target),
    ]
