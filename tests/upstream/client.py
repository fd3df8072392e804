"""Runs models through Mesa's delegate on a virtual board, and keeps what it did."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from teflon.board.board import Board
from teflon.board.server import ServedNode
from teflon.ir.types import Array
from teflon_common import recording
from teflon_common.recording import Recording
from tests.upstream.sysroot import Sysroot

GUEST = Path(__file__).with_name("guest.py")
START, LIMIT, CLOSING = 120.0, 240.0, 20.0
"""Seconds for the imports, for one model, and for the board to close the files of a process."""

_VERDICT = re.compile(r"^ *(\d+) +\S+ +v\d+ +(supported|unsupported)\b", re.M)


@dataclass
class Run:
    """One model in a process of its own."""

    status: int | None = None
    """The process's exit status; negative: the signal that ended it; None: it took too long."""
    log: str = ""
    outputs: dict[int, Array] = field(default_factory=dict)
    """Outputs of the model and of the delegate's partitions by number; {} if it did not run."""
    partitions: list[list[int]] = field(default_factory=list)
    """The outputs of each partition."""
    seconds: dict[str, float] = field(default_factory=dict)
    """load (the delegate), prepare (compile), invoke; all: with the process around it."""
    complaints: list[str] = field(default_factory=list)
    """Of the simulated chip."""
    recording: Recording | None = None

    @property
    def nodes(self) -> list[bool]:
        """Whether Mesa takes each operation, in its own words."""
        rows = {int(m[1]): m[2] == "supported" for m in _VERDICT.finditer(self.log)}
        return [rows[n] for n in sorted(rows)]

    @property
    def crash(self) -> str:
        """How the process ended; "" if it ended well."""
        if self.status == 0:
            return ""
        if self.status is None:
            return "no end"
        what = signal.Signals(-self.status).name if self.status < 0 else f"exit {self.status}"
        where = "" if self.outputs else " before the outputs"
        return what + (" after the outputs" if self.outputs else where)


class Client:
    """A process with Mesa's delegate on a board with one chip."""

    def __init__(self, sysroot: Sysroot, chip: str) -> None:
        self._sysroot = sysroot
        self._folder = tempfile.TemporaryDirectory(prefix="teflon-upstream-")
        self._kept: list[bytes] = []
        self._board = Board(chip, keep=self._keep)
        (self._node,) = self._board.server.nodes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._board.close()
        self._folder.cleanup()

    def run(self, model: Path, inputs: dict[int, Array]) -> Run:
        """Run a model once. inputs: by tensor number."""
        process = self._process or self._start()
        complaints = self._node.node.kernel.complaints
        complaints.clear()
        self._kept.clear()
        with tempfile.TemporaryDirectory(dir=self._folder.name) as into:
            given = Path(into, "inputs.npz")
            np.savez(given, **{str(index): array for index, array in inputs.items()})  # type: ignore[arg-type]
            start = time.monotonic()
            order = {"model": str(model), "inputs": str(given), "into": into}
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            status = self._answer(process, LIMIT)
            if status is None:
                self._end()
            run = _read(Path(into), status)
            run.seconds["all"] = time.monotonic() - start
        self._closed()
        run.complaints = list(complaints)
        run.recording = self._recording()
        return run

    def _keep(self, served: ServedNode, data: bytes) -> None:
        self._kept.append(data)

    def _recording(self) -> Recording | None:
        """Return what was recorded: one of the files that the process opened has jobs."""
        if not self._kept:
            return None
        (data,) = self._kept
        path = Path(self._folder.name, "recording.npz")
        path.write_bytes(data)
        return recording.read(path)

    def _start(self) -> subprocess.Popen[str]:
        command = self._sysroot.command(GUEST, str(self._sysroot.delegate))
        plain = {
            "PATH": os.environ["PATH"], "HOME": self._folder.name, "LC_ALL": "C.UTF-8",
            "OPENBLAS_NUM_THREADS": "1", "TEFLON_DEBUG": "verbose",
            # no file of this machine changes what Mesa does
            "MESA_SHADER_CACHE_DISABLE": "1", "DRIRC_CONFIGDIR": self._folder.name,
        }  # fmt: skip
        self._process = subprocess.Popen(
            command, env=plain | self._board.environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        if self._answer(self._process, START) != "ready":
            self._process.kill()
            said = self._process.communicate()[1]
            raise RuntimeError(f"{' '.join(command)}: does not start: {said}")
        return self._process

    @staticmethod
    def _answer(process: subprocess.Popen[str], seconds: float) -> Any:
        """Return the next line's content; None if none comes."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else ""
        return json.loads(line) if line else None

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _closed(self) -> None:
        """Wait until the board has closed what the model's process had open."""
        late = time.monotonic() + CLOSING
        while self._node.status()["files"]:
            if time.monotonic() > late:
                raise RuntimeError(f"{self._node.path}: is open after its program has ended")
            time.sleep(0.002)


def _read(folder: Path, status: int | None) -> Run:
    log = folder / "log"
    run = Run(status, log.read_text(errors="replace") if log.exists() else "")
    about = folder / "about.json"
    if about.exists():
        found = json.loads(about.read_text())
        run.partitions, run.seconds = found["partitions"], found["seconds"]
        with np.load(folder / "outputs.npz") as arrays:
            run.outputs = {int(name): arrays[name] for name in arrays.files}
    return run
