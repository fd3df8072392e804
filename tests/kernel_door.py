"""Run programs that see fake kernels behind real device nodes: the shim and its server, for tests.

with Door("/dev/accel/accel0=rocket:rk3588") as door:
    done = door.python("import teflon; ...")
    assert door.status()["/dev/accel/accel0"]["handles"] == 0
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.paths import ROOT

NODE = "/dev/accel/accel0"
ROCKET = f"{NODE}=rocket:rk3588"

COMPILER = shutil.which(os.environ.get("CC", "cc"))
needs_shim = pytest.mark.skipif(
    not COMPILER or not sys.platform.startswith("linux"),
    reason="the preload library needs Linux and a C compiler",
)


@functools.cache
def built(source: str, *options: str) -> Path:
    """Compile a preload library from tests/native, once per test process."""
    folder = tempfile.TemporaryDirectory(prefix="teflon-shim-")
    _KEPT.append(folder)
    target = Path(folder.name) / (Path(source).stem + ".so")
    command = [str(COMPILER), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared",
               "-fPIC", *options, "-o", str(target), str(ROOT / source), "-ldl"]  # fmt: skip
    subprocess.run(command, check=True)
    return target


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


class Door:
    """A folder with nodes, the process that serves them, and programs that see them."""

    def __init__(self, *nodes: str, faults: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="door-")  # short: a socket's path is
        self.root = Path(self._folder.name)
        environment = os.environ | {"TEFLON_SHIM_FAULTS": faults}
        command = [sys.executable, "-P", str(ROOT / "tests/kernel_server.py"), str(self.root)]
        self._server = subprocess.Popen(
            [*command, *nodes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            text=True,
        )  # fmt: skip
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n", "the kernel server did not start"
        self._control = socket.socket(socket.AF_UNIX)
        self._control.connect(str(self.root / "control"))
        self._lines = self._control.makefile("rw")

    def facade(self, node: str = NODE, device: str = "rknn", driver: str = "") -> None:
        """Let /sys say what a node belongs to: rocket's facade, or a device with a driver."""
        kind = "accel" if "accel" in node else "drm"
        target = self.root / "sys/devices/platform" / device
        target.mkdir(parents=True, exist_ok=True)
        (target / "uevent").write_text(f"DRIVER={driver}\n" if driver else "MODALIAS=x\n")
        link = self.root / f"sys/class/{kind}/{Path(node).name}/device"
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.relpath(target, link.parent))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._control.close()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(30)
        self._folder.cleanup()

    def obey(self, what: str, **order: Any) -> Any:
        """Send a line to the control socket and return the answer."""
        self._lines.write(json.dumps({"do": what, **order}) + "\n")
        self._lines.flush()
        return json.loads(self._lines.readline())

    def status(self, node: str = NODE) -> Mapping[str, Any]:
        """Return what is open on a node, and what was complained about."""
        found: Mapping[str, Any] = self.obey("status")[node]
        return found

    def left(self, node: str = NODE) -> list[str]:
        """Return what is still open two seconds after it should be closed, and complaints."""
        end = time.monotonic() + 2
        while (status := self.status(node))["files"] and time.monotonic() < end:
            time.sleep(0.002)  # the server learns of a closed file when it next looks
        open_still = {k: status[k] for k in ("files", "handles", "bytes") if status[k]}
        complaints: list[str] = status["complaints"]
        return [f"{count} {what}" for what, count in open_still.items()] + complaints

    def log(self) -> list[tuple[str, int]]:
        """Return (request, result) of all requests since faults were set."""
        return [(name, result) for name, result in self.obey("log")]

    def environment(self, *preload: Path, **more: str) -> dict[str, str]:
        """Return the environment of a program that sees the nodes; `preload` comes first."""
        shim = built("tests/native/kernel_shim.c")
        return os.environ | {
            "LD_PRELOAD": ":".join(str(path) for path in (*preload, shim)),
            "TEFLON_SHIM_ROOT": str(self.root),
            **more,
        }

    def run(
        self, command: Sequence[str | Path], *preload: Path, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; its text and exit code are in what is returned."""
        return subprocess.run(
            [str(word) for word in command], env=self.environment(*preload, **more),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def python(self, code: str, *words: str | Path) -> str:
        """Run Python code and return what it printed. Fails when it fails."""
        done = self.run([sys.executable, "-P", "-c", code, *words])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def teflon(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command `teflon`."""
        code = "import sys; from teflon.cli import main; sys.exit(main())"
        return self.run([sys.executable, "-P", "-c", code, *words], **more)
