"""Ask a TFLite runtime in another process, which a bad model may end."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

SECONDS: Final = 120.0
"""How long an answer may take: a large model is opened and run once."""

PATIENCE: Final = 10.0
"""How long an answer about a model may take that nothing speaks against."""


class Crash(Exception):
    """The other process ended; the text is a clause that says how."""


class Late(Crash):
    """There was no answer in time."""


class Absent(Crash):
    """There is no other process and none can be started."""


class Child:
    """A process that runs `inner.py`; it is started when it is first asked, and again after a
    crash.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: after a fork the process is the parent's."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(
        self, request: dict[str, Any], content: bytes | memoryview, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Return the answer to a request about a model. Raises Crash."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            line = json.dumps({**request, "size": len(content)}).encode() + b"\n"
            try:
                process.stdin.write(line)
                process.stdin.write(content)
                process.stdin.flush()
                return self._answer(process, seconds)
            except TimeoutError:
                process.kill()
                self._end()
                raise Late(f"the TFLite runtime takes more than {seconds:g} s for it") from None
            except (BrokenPipeError, EOFError):
                raise Crash(self._end()) from None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            why = "it could end this process, and there is no Python to try it in"
            if not sys.executable:
                raise Absent(why)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(Path(__file__).with_name("inner.py"))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                )
            except OSError as error:
                raise Absent(f"{why} ({error.strerror})") from error
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            raise TimeoutError
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        found: dict[str, Any] = json.loads(line)
        return found

    def _end(self) -> str:
        """Wait for the end and return how it came."""
        process, self._process = self._process, None
        assert process is not None
        code = _closed(process)
        if code == -signal.SIGKILL:
            return "the TFLite runtime takes too much memory for it"
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the TFLite runtime crashes on it ({name})"

    def close(self) -> None:
        """End the process; a second call does nothing."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                _closed(process)


def _closed(process: subprocess.Popen[bytes]) -> int:
    try:
        process.communicate(timeout=5)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        process.kill()
        process.communicate()
    return process.returncode


CHILD = Child()
atexit.register(CHILD.close)

os.register_at_fork(after_in_child=CHILD.forget)
