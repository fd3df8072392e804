"""The fault matrix of a driver: which requests, what must become of each errno, how it is shown."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teflon import plugins
from teflon.ir.builder import Builder
from tests.kernel_door import Door
from tests.paths import ROOT

ERRNOS = ("EINTR", "EAGAIN", "ENOMEM", "ENOSPC", "EINVAL", "EACCES", "ENODEV", "EIO", "EFAULT",
          "ETIMEDOUT", "EBUSY")  # fmt: skip
RESTARTED = ("EINTR", "EAGAIN")
LATE = ("ETIMEDOUT", "EBUSY")
LETTERS = {"": ".", "DriverUnavailable": "unavailable", "DeviceError": "error",
           "DeviceTimeout": "timeout"}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A chip behind a node, and the requests of a clean run on it, by what they are for."""

    driver: str
    chip: str
    node: str
    owner: str  # the kernel driver in /sys, "" for rocket's facade
    ask: str  # the request that tells what the node is
    make: str
    prepare: str
    finish: str
    submit: str
    others: tuple[str, ...] = ()
    optional: tuple[int, ...] = ()  # calls of `ask` that old kernels refuse with EINVAL
    errnos: tuple[str, ...] = ERRNOS

    @property
    def names(self) -> tuple[str, ...]:
        """All of them; those that are no ioctl, too."""
        used = (self.make, *self.others, "MMAP", self.prepare, self.finish, self.submit)
        return ("OPEN", self.ask, *used, "GEM_CLOSE")

    def door(self) -> Door:
        made = Door(f"{self.node}={self.driver}:{self.chip}")
        made.facade(self.node, "npu" if self.owner else "rknn", self.owner)
        return made

    def expected(self, name: str, call: int, code: str) -> str:
        """Return the class of error that a request's errno must become, "" where nobody notices."""
        if name == "OPEN":  # Python itself opens again after EINTR
            return "" if code == "EINTR" else "DriverUnavailable"
        if name != "MMAP" and code in RESTARTED:
            return ""
        if name == self.ask:
            ends = code == "EINVAL" and call in self.optional
            return "" if ends else "DriverUnavailable"
        return "DeviceTimeout" if code in LATE and name != "MMAP" else "DeviceError"


ROCKET = Bench("rocket", "rk3588", "/dev/accel/accel0", "", "VERSION", "CREATE_BO", "PREP_BO",
               "FINI_BO", "SUBMIT")  # fmt: skip
_ETNAVIV = ("/dev/dri/renderD128", "etnaviv", "GET_PARAM", "GEM_NEW", "GEM_CPU_PREP",
            "GEM_CPU_FINI", "GEM_SUBMIT", ("GEM_INFO",), (6,))  # fmt: skip
A311D = Bench("etnaviv", "a311d", *_ETNAVIV)
IMX8MP = Bench("etnaviv", "imx8mp", *_ETNAVIV, ("ENOMEM", "EIO", "ETIMEDOUT"))
"""Its programs differ, its kernel does not: one errno of each kind."""


class Client:
    """The process that the faults happen to: it is told a cell and answers what became of it."""

    def __init__(self, bench: Bench, door: Door, folder: Path) -> None:
        self.bench = bench
        program, inputs = folder / "program.bin", folder / "in.npz"
        compiled(bench, program, inputs)
        words = [str(ROOT / "tests/fault_client.py"), str(door.root / "control"), bench.driver,
                 bench.chip, bench.node, str(program), str(inputs)]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=door.environment(), text=True,
        )  # fmt: skip
        self.clean: list[str] = self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def cell(self, *rules: str, trouble: str = "", limit: float = 0) -> dict[str, Any]:
        assert self.process.stdin is not None
        order = {"rules": rules, "trouble": trouble, "limit": limit}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self._line()
        assert answer is not None, f"the program died of {order}"
        return dict(answer)

    def calls(self, name: str) -> list[int]:
        """Return the first, a middle and the last call of a request in a clean run."""
        count = self.clean.count(name)
        return sorted({1, (count + 1) // 2, count})

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


def compiled(bench: Bench, program: Path, inputs: Path) -> None:
    """Write a program of two convolutions, and an input."""
    random = np.random.default_rng(3)
    b = Builder("two")
    y = b.input("x", "u8", (1, 8, 8, 16), 0.02, 128)
    for name in ("first", "second"):
        weights = random.integers(0, 256, (16, 1, 1, 16), np.uint8)
        y = b.conv2d(
            y, weights, weight_scale=0.01, weight_zero_point=128, scale=0.03, zero_point=128,
            name=name,
        )  # fmt: skip
    b.output(y)
    device = plugins.discover().drivers[bench.driver].device(bench.chip)
    program.write_bytes(device.compile(b.build()).to_bytes())
    np.savez(inputs, x=random.integers(0, 256, (1, 8, 8, 16), np.uint8))


def wrong(bench: Bench, name: str, call: int, code: str, cell: dict[str, Any]) -> list[str]:
    """Return what is wrong with the outcome of a cell."""
    want = bench.expected(name, call, code)
    found = []
    if cell["error"] != want:
        found.append(f"is {cell['error'] or 'no error'}, must be {want or 'none'}: {cell['text']}")
    if want and not _tells(bench, name, code, cell["text"]):
        found.append(f"does not name {code} and a cure: {cell['text']}")
    if cell["complaints"]:
        found.append(f"the kernel complains: {cell['complaints']}")
    if cell["left"]:
        found.append(f"leaves {', '.join(cell['left'])}")
    if not cell["works"]:
        found.append("the next inference is wrong or fails")
    return [f"{cell['rules']}: {text}" for text in found]


def _tells(bench: Bench, name: str, code: str, text: str) -> bool:
    """Whether a message has one line, a cure, and the errno, by name or as text."""
    named = code in text or os.strerror(getattr(errno, code)) in text
    known = name == bench.ask and code == "EINVAL"  # the answer of a kernel that knows no such
    return "\n" not in text and text.endswith(")") and " (" in text and (named or known)


def outcome(cell: dict[str, Any]) -> str:
    if not cell["error"]:
        return "."
    return f"{cell['stage'].replace('inference ', 'run')} {LETTERS[cell['error']]}"


def as_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
