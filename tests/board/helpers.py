"""Running programs on a board whose kernel is a small one (kernel.py), and compiling them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from teflon.board import sysfs
from teflon.board.board import VARIABLE, library
from teflon.board.faults import Faults
from teflon.board.server import ServedNode, Server
from teflon.pipe import VirtualNode
from tests.board.kernel import SmallKernel
from tests.paths import ROOT

COMPILER = shutil.which(os.environ.get("CC", "cc"))
needs_compiler = pytest.mark.skipif(
    not COMPILER or not sys.platform.startswith("linux"), reason="needs Linux and a C compiler"
)
TEFLON = [sys.executable, "-P", "-m", "teflon"]
HERE = ROOT / "tests/board"
NODE = "/dev/dri/renderD128"


@functools.cache
def compiled(source: str, *options: str, compiler: str = "") -> Path:
    """Compile a C program of this folder, once per test process."""
    folder = tempfile.TemporaryDirectory(prefix="teflon-c-")
    _KEPT.append(folder)
    target = Path(folder.name) / Path(source).stem
    command = [compiler or str(COMPILER), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror",
               "-pthread", *options, "-o", str(target), str(HERE / source), "-ldl"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


class SmallBoard:
    """A served folder, and methods that run programs there."""

    def __init__(self, root: Path, *kernels: SmallKernel) -> None:
        self.root, self.kernel = root, kernels[0]
        self.nodes = [
            ServedNode(f"/dev/dri/renderD{128 + i}", VirtualNode("render", kernel, f"npu{i}"))
            for i, kernel in enumerate(kernels)
        ]
        self.server = Server(self.nodes, Faults([]))
        sysfs.write(root, self.nodes)
        self.server.start(root)

    def environment(self, shim: Path | None = None, **more: str) -> dict[str, str]:
        preload = {"LD_PRELOAD": str(shim or library()), VARIABLE: str(self.root)}
        return os.environ | preload | more

    def run(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, seconds: int = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and return its output and exit code."""
        return subprocess.run(
            [str(word) for word in command], env=env or self.environment(), capture_output=True,
            text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def passes(self, source: str, *words: str | Path, options: Sequence[str] = ()) -> str:
        """Compile and run a program, which must end well; return what it printed."""
        done = self.run([compiled(source, *options), *words])
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith("0 bad\n"), done.stderr
        return done.stdout

    def open_files(self) -> int:
        """Return how many files are open, two seconds after they should be closed."""
        end = time.monotonic() + 2
        while (count := sum(len(n.files) for n in self.nodes)) and time.monotonic() < end:
            time.sleep(0.002)  # the server notices a closed file a little later
        return count


@contextmanager
def small_board(*kernels: SmallKernel) -> Iterator[SmallBoard]:
    with tempfile.TemporaryDirectory(prefix="board-") as folder:
        board = SmallBoard(Path(folder), *(kernels or (SmallKernel(),)))
        yield board
        assert board.open_files() == 0


def teflon_board(
    chips: str, program: Sequence[str | Path], *options: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command `teflon board`; `more` goes into the environment."""
    words = ["board", chips, *options, "--", *(str(word) for word in program)]
    return subprocess.run(
        [*TEFLON, *words], env=os.environ | more, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


@contextmanager
def killable_board(root: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Serve a small board from another process; yield that and a program's environment."""
    code = (
        "import sys, time; from pathlib import Path; from tests.board import helpers, kernel\n"
        "helpers.SmallBoard(Path(sys.argv[1]), kernel.SmallKernel()); print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process, os.environ | {"LD_PRELOAD": str(library()), VARIABLE: str(root)}
        process.kill()
