"""What an executable file says: whether the preload library reaches this program."""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

# Ref: System V ABI, ELF-64 object file format (header, program headers); Linux, elf.h (e_machine)

_IDENT, _HEADER = b"\x7fELF", struct.Struct("<HHIQQQIHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_INTERPRETER = 3  # PT_INTERP
_MACHINES = {0x03: "i386", 0x28: "arm", 0x3E: "x86-64", 0xB7: "arm64", 0xF3: "riscv64"}
_SCRIPTS = 4
"""Interpreters of interpreters that are followed."""
_HEAD = 1 << 16
"""Bytes of a file that are read."""


@dataclass(frozen=True)
class Elf:
    """What the first bytes of an ELF file say; interpreter: the dynamic linker, "" for none."""

    bits: int
    machine: str
    interpreter: str = ""

    @classmethod
    def of(cls, data: bytes) -> Elf | None:
        """Return what a file's first bytes say, None if they are no ELF header."""
        if data[:4] != _IDENT or len(data) < 64:
            return None
        order = "<" if data[5] == 1 else ">"
        (number,) = struct.unpack_from(f"{order}H", data, 18)
        machine = _MACHINES.get(number, f"machine {number}")
        if data[4] != 2 or order == ">":
            return cls(32 if data[4] == 1 else 64, machine)
        _, _, _, _, table, _, _, _, size, count = _HEADER.unpack_from(data, 16)
        for at in range(table, table + size * count, max(size, 1)):
            if at + _PROGRAM.size > len(data):
                break
            kind, _, offset, _, _, length, _, _ = _PROGRAM.unpack_from(data, at)
            if kind == _INTERPRETER:
                text = data[offset : offset + length].rstrip(b"\0")
                return cls(64, machine, os.fsdecode(text) or "?")
        return cls(64, machine)


def unreached(program: str) -> str:
    """Return a sentence why a program will not see the nodes; "" if it will, or cannot be read."""
    found = shutil.which(program)
    try:
        path, data = _binary(Path(found)) if found else (Path(), b"")
        elf, own = Elf.of(data), Elf.of(_head(Path("/proc/self/exe")))
        mode = path.stat()
    except OSError:
        return ""
    if elf is None or own is None:
        return ""
    kind, cure = _reason(elf, own, path.name)
    if not kind and mode.st_mode & stat.S_ISUID and mode.st_uid != os.geteuid():
        kind, cure = "runs as another user, and ignores LD_PRELOAD", "run a copy of it"
    return f"{path}: {kind}; it will not see the board's nodes ({cure})" if kind else ""


def _reason(elf: Elf, own: Elf, name: str) -> tuple[str, str]:
    """Return what is wrong with a program, and the cure; "" for nothing."""
    compile_it = "compile the preload library for it: teflon board --shim-source"
    if elf.bits != own.bits:
        return f"is a {elf.bits}-bit program", "must be 64-bit"
    if elf.machine != own.machine:
        return f"is for {elf.machine}, this machine is {own.machine}", compile_it
    if not elf.interpreter:
        linker = re.match(r"ld[-.]", name)  # it preloads although it needs no dynamic linker
        return ("", "") if linker else ("is linked statically", "link it dynamically")
    if ("ld-musl" in elf.interpreter) != ("ld-musl" in own.interpreter):
        return f"uses the C library of {elf.interpreter}", compile_it
    return "", ""


def _binary(path: Path) -> tuple[Path, bytes]:
    """Return the file that the kernel loads for an executable, and its first bytes."""
    data = _head(path)
    for _ in range(_SCRIPTS):
        if not data.startswith(b"#!"):
            break
        words = [os.fsdecode(word) for word in data[2:].split(b"\n", 1)[0].split()]
        if words and Path(words[0]).name == "env":
            words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        found = shutil.which(words[0]) if words else None
        if found is None:
            break
        path = Path(found)
        data = _head(path)
    return path, data


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
