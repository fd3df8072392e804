"""The process that runs cases: limits of time and memory, and where an error came from.

As a program it runs cases and writes a line of JSON at the beginning and at the end of each.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.fuzz.runner import Kind

ROOT = Path(__file__).resolve().parent.parent.parent
_START = 120.0
"""Seconds that a process may take before its first case."""
_GRACE = 2.0
"""Seconds beyond its limit after which a case that no signal reaches is killed."""


class Ended(NamedTuple):
    """How a case ended; `defect` is empty if it ended well."""

    number: int
    field: str
    outcome: str
    defect: str = ""


class Hang(BaseException):
    """A case takes too long."""


class Child:
    """A process that runs the cases of a kind from a number on; it ends at a hang or crash."""

    def __init__(
        self, module: str, kind: str, seeds: Path, seed: int, first: int, last: int, seconds: float
    ) -> None:
        self._first, self._seconds = first, seconds
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-P", "-m", "tests.fuzz.child", module, kind, str(seeds)]
        self._process = subprocess.Popen(
            [*command, str(seed), str(first), str(last)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._buffer = b""

    def cases(self, deadline: float) -> Iterator[Ended]:
        """Yield how each case ended, until the process or the time ends."""
        number, field, limit = self._first, "", _START
        try:
            while time.monotonic() < deadline:
                plain = self._line(limit)
                if plain is None:
                    if self._process.poll() != 0:
                        yield Ended(number, field, "defect", self._end())
                    return
                limit = self._seconds + _GRACE
                number, field = plain["number"], plain["field"]
                if "outcome" in plain:
                    yield Ended(**plain)
        finally:
            self._process.kill()
            self._process.communicate()
            self._errors.close()

    def _line(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message; None at the end, or if there is none in time."""
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([number], [], [], seconds)
            part = os.read(number, 1 << 16) if ready else b""
            if not part:
                if ready:
                    self._process.wait()
                return None
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _end(self) -> str:
        code = self._process.poll()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        places = [line.strip() for line in text.splitlines() if 'File "' in line]
        place = places[0] if places and code != 1 else text[-300:]
        if code is None:
            return f"hang outside Python, {place}"
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return f"crash {how}, {place}"


def place_of(error: BaseException) -> str:
    """Return the file, line and function of ours that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(str(ROOT)) and "/.venv/" not in f.filename]
    ours = [f for f in ours if f.filename != __file__] or ours
    if not ours:
        return "elsewhere"
    found = next((f for f in reversed(ours) if "/tests/" not in f.filename), ours[-1])
    return f"{Path(found.filename).relative_to(ROOT)}:{found.lineno} {found.name}"


class Bench:
    """Runs cases in this process, under limits."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.stray: list[BaseException] = []
        threading.excepthook = lambda found: self._keep(found.exc_value)
        sys.unraisablehook = lambda found: self._keep(found.exc_value)
        warnings.simplefilter("error")
        signal.signal(signal.SIGALRM, _ring)
        resource.setrlimit(resource.RLIMIT_AS, (kind.memory, kind.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _keep(self, error: BaseException | None) -> None:
        if error is not None:
            self.stray.append(error)

    def run(self, number: int, seeds: list[bytes], seed: int, begin: Any) -> Ended:
        """Run a case; `begin` is called with its field before that."""
        from tests.fuzz.runner import case

        try:
            mutant, random = case(self.kind, seeds, seed, number)
        except Exception as error:
            return Ended(number, "", "defect", f"mutator {type(error).__name__} {place_of(error)}")
        begin(mutant.field)
        faulthandler.dump_traceback_later(self.kind.seconds + _GRACE / 2)
        signal.setitimer(signal.ITIMER_REAL, self.kind.seconds)
        try:
            outcome, defect = self.kind.run(mutant.data, random), ""
        except Hang as hang:
            outcome, defect = "defect", f"hang {place_of(hang)}"
        except Exception as error:
            outcome, defect = "defect", f"raw {type(error).__name__} {place_of(error)}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
        if self.stray and not defect:
            found = self.stray[0]
            outcome, defect = "defect", f"stray {type(found).__name__} {place_of(found)}"
        self.stray.clear()
        return Ended(number, mutant.field, outcome, defect)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    raise Hang


def _main(module: str, name: str, seeds: str, seed: int, first: int, last: int) -> int:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as messages:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        kind: Kind = importlib.import_module(module).KINDS[name]
        faulthandler.enable()
        bench = Bench(kind)
        corpus: list[bytes] = pickle.loads(Path(seeds).read_bytes())

        def say(**plain: Any) -> None:
            messages.write(json.dumps(plain) + "\n")
            messages.flush()

        for number in range(first, last):
            begin = lambda field, number=number: say(number=number, field=field)  # noqa: E731
            ended = bench.run(number, corpus, seed, begin)
            say(**ended._asdict())
            if ended.defect.startswith("hang"):
                messages.flush()
                os._exit(0)  # threads may still be at it
    os._exit(0)


if __name__ == "__main__":
    _, _module, _name, _seeds, *_numbers = sys.argv
    _seed, _first, _last = map(int, _numbers)
    sys.exit(_main(_module, _name, _seeds, _seed, _first, _last))
