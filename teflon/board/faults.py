"""Faults that a board lets happen: the n-th request of a name fails, or a job hangs or breaks off.

A rule is NAME:CALL:WHAT[:TIMES]. NAME is a request (`SUBMIT`), `OPEN`, `MMAP` or `JOB`. The CALL-th
of that name, and those after it up to TIMES in all, fail with the errno WHAT, or are late by
+SECONDS. A job can also HANG, until there are other rules, or BREAK off half way. Calls are counted
from 1, from the moment when the rules are set, over all nodes.
"""

from __future__ import annotations

import errno
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from teflon.errors import OptionError
from teflon.pipe import refuse

LONGEST = 86400
_KEPT = 1 << 16
"""Requests that the log holds."""
JOB, HANG, BREAK = "JOB", "HANG", "BREAK"
_STEP = 0.05
"""Seconds after which a job that hangs looks whether it is over."""
_RULE = re.compile(r"([A-Z][A-Z0-9_]*):([1-9]\d*):([A-Z0-9]+|\+\d+(?:\.\d+)?)(?::([1-9]\d*))?")
_FORM = "must be NAME:CALL:WHAT[:TIMES], such as SUBMIT:2:EIO, GEM_NEW:1:ENOMEM:3 or JOB:1:+0.5"


@dataclass(frozen=True)
class Fault:
    """A fault of `times` calls of one name, beginning with number `call`."""

    name: str
    call: int
    code: int = 0
    delay: float = 0.0
    what: str = ""
    times: int = 1

    def hits(self, name: str, call: int) -> bool:
        return self.name == name and 0 <= call - self.call < self.times


def parse(text: str) -> Fault:
    """Return the fault of a rule. Raises OptionError."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise OptionError(f"fault {text!r}: {_FORM}")
    name, call, what, times = found[1], int(found[2]), found[3], int(found[4] or 1)
    if what.startswith("+"):
        if float(what) > LONGEST:
            raise OptionError(f"fault {text!r}: a request is at most {LONGEST} seconds late")
        return Fault(name, call, delay=float(what), times=times)
    if name == JOB:
        if what not in (HANG, BREAK):
            raise OptionError(f"fault {text!r}: a job can {HANG}, {BREAK} off or be +SECONDS late")
        return Fault(name, call, what=what, times=times)
    code = getattr(errno, what, None)
    if not isinstance(code, int):
        raise OptionError(f"fault {text!r}: {what} is no errno, {_FORM}")
    return Fault(name, call, code=code, times=times)


class Faults:
    """The rules in force, and all requests since they were set."""

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """Raises OptionError for a bad rule."""
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self.set(rules)

    def set(self, rules: Iterable[str]) -> None:
        """Set new rules and count from 1 again. Raises OptionError; then the old rules stay."""
        parsed = [parse(rule) for rule in rules]
        with self._lock:
            self._changed.set()
            self._changed = threading.Event()
            self._rules = parsed
            self._counts: Counter[str] = Counter()
            self.log: deque[list[Any]] = deque(maxlen=_KEPT)

    def _met(self, name: str) -> tuple[list[Fault], threading.Event]:
        with self._lock:
            self._counts[name] += 1
            call = self._counts[name]
            return [f for f in self._rules if f.hits(name, call)], self._changed

    def meet(self, name: str) -> None:
        """Count a request; where a rule hits it, wait or raise OSError."""
        for fault in self._met(name)[0]:
            time.sleep(fault.delay)
            if fault.code:
                raise refuse(fault.code)

    def meet_job(self, ended: Callable[[], bool] = lambda: False) -> bool:
        """Count a job; return whether it breaks off half way.

        A hanging job and a late one end early when `ended()` says that nothing waits for them.
        """
        found, changed = self._met(JOB)
        for fault in found:
            late = time.monotonic() + fault.delay
            while not ended():
                left = late - time.monotonic()
                if fault.what == HANG and not changed.wait(_STEP):
                    continue
                if left <= 0:
                    break
                time.sleep(min(left, _STEP))
        return any(fault.what == BREAK for fault in found)

    def unmet(self) -> list[str]:
        """Return the rules whose request never came."""
        with self._lock:
            return [
                f"{rule.name}:{rule.call}" for rule in self._rules
                if self._counts[rule.name] < rule.call
            ]  # fmt: skip

    def note(self, name: str, result: int) -> None:
        """Add a request to the log, which ends with the rules."""
        self.log.append([name, result])
