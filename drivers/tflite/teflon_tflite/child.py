"""Ask a TFLite runtime in another process, which a bad model may end."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from teflon import forks

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
        self._lock = forks.lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._of_parents: list[subprocess.Popen[bytes]] = []
        forks.watch(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child: the process is the parent's.

        It must not wait for the end of pipes that only this copy still holds open.
        """
        process, self._process = self._process, None
        if process is not None:
            _close_pipes(process)
            self._of_parents.append(process)  # never freed: that would ask for its end

    def ask(
        self, request: dict[str, Any], content: bytes | memoryview, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Return the answer to a request about a model. Raises Crash."""
        with self._lock:
            process = self._started()
            line = json.dumps({**request, "size": len(content)}).encode() + b"\n"
            try:
                _send(process, line)
                _send(process, content)
                return self._answer(process, seconds)
            except TimeoutError:
                process.kill()
                self._end()
                raise Late(f"the TFLite runtime takes more than {seconds:g} s for it") from None
            except (BrokenPipeError, EOFError):
                raise Crash(self._end()) from None
            except BaseException:  # Ctrl-C: the answer to this request must not pass for another's
                process.kill()
                self._end()
                raise

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
                    bufsize=0,  # a buffer has a lock, and a forked child could write it twice
                    start_new_session=True,  # Ctrl-C is this process's to handle
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


def _send(process: subprocess.Popen[bytes], content: bytes | memoryview) -> None:
    assert process.stdin is not None
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[process.stdin.write(rest) :]


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _closed(process: subprocess.Popen[bytes]) -> int:
    _close_pipes(process)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return process.returncode


CHILD = Child()
atexit.register(CHILD.close)
