"""Running programs on virtual boards that the command `teflon board --serve` serves, for tests.

with Door("rk3588") as door:
    done = door.python("import teflon; ...")
    assert door.status()["/dev/accel/accel0"]["handles"] == 0

It also has the fault matrix of a driver: its requests, the error that each errno must give, and the
table of the results.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from teflon import plugins
from teflon.board.control import Control
from teflon.ir.builder import Builder
from tests.paths import ROOT

NODE = "/dev/accel/accel0"
ROCKET = "rk3588"

COMPILER = shutil.which(os.environ.get("CC", "cc"))
needs_shim = pytest.mark.skipif(
    not COMPILER or not sys.platform.startswith("linux"),
    reason="the preload library needs Linux and a C compiler",
)


class Door:
    """A virtual board, and methods that run programs there."""

    def __init__(self, chips: str, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="door-")
        self.root = Path(self._folder.name) / "board"
        code = "import sys; from teflon.cli import main; sys.exit(main())"
        words = ["board", chips, *options, "--serve", str(self.root)]
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *words], stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout is not None
        lines = [self._server.stdout.readline() for _ in range(3)]
        assert lines[-1], "the board did not start"
        exports = [shlex.split(line)[1].partition("=") for line in lines[1:]]
        self.variables = {name: value for name, _, value in exports}
        self.control = Control(self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.control.close()
        self._server.terminate()
        assert self._server.wait(30) == 0
        assert self._server.stdout is not None
        self._server.stdout.close()
        assert list(self.root.iterdir()) == []
        self._folder.cleanup()

    def obey(self, what: str, **order: Any) -> Any:
        """Send an order to the control socket and return the answer."""
        return self.control.obey(what, **order)

    def status(self, node: str = NODE) -> Mapping[str, Any]:
        """Return the open files and buffers of each node, and its complaints."""
        found: Mapping[str, Any] = self.obey("status")[node]
        return found

    def left(self, node: str = NODE) -> list[str]:
        """Return what is still open two seconds after it should be closed, and complaints."""
        end = time.monotonic() + 2
        while (status := self.status(node))["files"] and time.monotonic() < end:
            time.sleep(0.002)  # the server notices a closed file a little later
        open_still = {k: status[k] for k in ("files", "handles", "bytes") if status[k]}
        complaints: list[str] = status["complaints"]
        return [f"{count} {what}" for what, count in open_still.items()] + complaints

    def log(self) -> list[tuple[str, int]]:
        """Return (request, result) of all requests since faults were set."""
        return [(name, result) for name, result in self.obey("log")]

    def environment(self, *preload: Path, **more: str) -> dict[str, str]:
        """Return the environment of a program that sees the nodes; `preload` comes first."""
        shim = self.variables["LD_PRELOAD"]
        first = ":".join(str(path) for path in (*preload, shim))
        return os.environ | self.variables | {"LD_PRELOAD": first, **more}

    def run(
        self, command: Sequence[str | Path], *preload: Path, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and return its output and exit code."""
        return subprocess.run(
            [str(word) for word in command], env=self.environment(*preload, **more),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def python(self, code: str, *words: str | Path) -> str:
        """Run Python code and return what it printed; fail the test if the code fails."""
        done = self.run([sys.executable, "-P", "-c", code, *words])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def teflon(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command `teflon`."""
        code = "import sys; from teflon.cli import main; sys.exit(main())"
        return self.run([sys.executable, "-P", "-c", code, *words], **more)


ERRNOS = ("EINTR", "EAGAIN", "ENOMEM", "ENOSPC", "EINVAL", "EACCES", "ENODEV", "EIO", "EFAULT",
          "ETIMEDOUT", "EBUSY")  # fmt: skip
RESTARTED = ("EINTR", "EAGAIN")
LATE = ("ETIMEDOUT", "EBUSY")
LETTERS = {"": ".", "DriverUnavailable": "unavailable", "DeviceError": "error",
           "DeviceTimeout": "timeout"}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A chip with a node, and the requests of a run without faults, by their purpose."""

    driver: str
    chip: str
    node: str
    ask: str  # the request that returns the chip's identity
    make: str
    prepare: str
    finish: str
    submit: str
    others: tuple[str, ...] = ()
    optional: tuple[int, ...] = ()  # calls of `ask` that old kernels refuse with EINVAL
    errnos: tuple[str, ...] = ERRNOS

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all requests, including OPEN and MMAP."""
        used = (self.make, *self.others, "MMAP", self.prepare, self.finish, self.submit)
        return ("OPEN", self.ask, *used, "GEM_CLOSE")

    def door(self) -> Door:
        return Door(f"{self.driver}:{self.chip}")

    def expected(self, name: str, call: int, code: str) -> str:
        """Return the class of error that an errno of a request must give; "" for no error."""
        if name == "OPEN":  # Python itself opens again after EINTR
            return "" if code == "EINTR" else "DriverUnavailable"
        if name != "MMAP" and code in RESTARTED:
            return ""
        if name == self.ask:
            ends = code == "EINVAL" and call in self.optional
            return "" if ends else "DriverUnavailable"
        return "DeviceTimeout" if code in LATE and name != "MMAP" else "DeviceError"


ROCKET_FAULTS = Bench(
    "rocket", "rk3588", "/dev/accel/accel0", "VERSION", "CREATE_BO", "PREP_BO", "FINI_BO",
    "SUBMIT",
)  # fmt: skip
_ETNAVIV = ("/dev/dri/renderD128", "GET_PARAM", "GEM_NEW", "GEM_CPU_PREP",
            "GEM_CPU_FINI", "GEM_SUBMIT", ("GEM_INFO",), (6,))  # fmt: skip
A311D_FAULTS = Bench("etnaviv", "a311d", *_ETNAVIV)
IMX8MP_FAULTS = Bench("etnaviv", "imx8mp", *_ETNAVIV, ("ENOMEM", "EIO", "ETIMEDOUT"))
"""A chip whose programs differ but whose kernel does not: one errno of each kind is enough."""


class Client:
    """The process in which the faults happen: it gets cells and returns their outcomes."""

    def __init__(self, bench: Bench, door: Door, folder: Path) -> None:
        self.bench = bench
        program, inputs = folder / "program.bin", folder / "in.npz"
        compiled(bench, program, inputs)
        client, control = ROOT / "tests/kernel/fault_client.py", door.root
        words = [str(client), str(control), bench.driver, bench.chip, bench.node, str(program),
                 str(inputs)]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=door.environment(), text=True,
        )  # fmt: skip
        self.clean: list[str] = self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def cell(self, *rules: str, limit: float = 0) -> dict[str, Any]:
        assert self.process.stdin is not None
        order = {"rules": rules, "limit": limit}
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
    if want and not _is_complete(bench, name, code, cell["text"]):
        found.append(f"does not name {code} and a cure: {cell['text']}")
    if cell["complaints"]:
        found.append(f"the kernel complains: {cell['complaints']}")
    if cell["left"]:
        found.append(f"leaves {', '.join(cell['left'])}")
    if not cell["works"]:
        found.append("the next inference is wrong or fails")
    return [f"{cell['rules']}: {text}" for text in found]


def _is_complete(bench: Bench, name: str, code: str, text: str) -> bool:
    """Whether an error message has one line, a cure, and the errno, by name or as text."""
    named = code in text or os.strerror(getattr(errno, code)) in text
    known = name == bench.ask and code == "EINVAL"  # the answer of a kernel without this request
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
