"""TEFLON_DEBUG: a table of flags, read once; a flag that is off costs one set lookup."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping

from teflon.errors import did_you_mean

FLAGS: dict[str, str] = {
    "help": "print this table",
    "verbose": "tables of operations, tensors and times, in the format of Mesa's Teflon",
    "partition": "where every operation runs, and why not on the NPU",
    "passes": "every pass with the time it took",
    "ir": "the graph after every pass that changed it",
    "roundtrip": "after every pass that changed the graph, print it, read the text back, go on"
    " with that; an error where both differ",
    "tasks": "every compiled program: buffers, jobs, tasks",
    "stream": "every compiled program, its command lists decoded",
    "nocache": "nothing is taken from or kept in the compile cache",
    "ioctl": "decoded requests to the kernel",
    "bos": "write buffers into the working directory, as mesa-KIND-PROGRAM-NUMBER.bin",
    "sync": "wait for whatever is submitted before going on; rocket submits each operation alone,"
    " so that an error names the one that hung",
    "trace": "write a timeline for Perfetto or chrome://tracing (file: TEFLON_TRACE)",
    "traceback": "the Python traceback when a command of the command line fails",
}
"""Flag name -> help. Drivers add rows with `add_flags` when they are loaded."""

VARIABLE = "TEFLON_DEBUG"

_OURS = frozenset(FLAGS)

_on: frozenset[str] | None = None
_checked: set[str] = set()
_lock = threading.Lock()


def add_flags(flags: Mapping[str, str]) -> None:
    """Add a driver's own flags; a name that is taken keeps its first meaning."""
    for name, text in flags.items():
        FLAGS.setdefault(name, text)


def enable(text: str) -> None:
    """Set flags, with commas between them, beside those of TEFLON_DEBUG, for this process.

    Whoever calls this lets `check` say which ones are unknown, once drivers are loaded.
    """
    global _on
    with _lock:
        _on = wanted() | _names(text)


def wanted() -> frozenset[str]:
    """Return the flags that are set, known or not."""
    global _on
    if _on is None:
        _on = _names(os.environ.get(VARIABLE, ""))
    return _on


def enabled(flag: str) -> bool:
    """Whether this flag is set."""
    return flag in (wanted() if _on is None else _on)


def compiles_anew() -> bool:
    """Whether a flag is set that is about work which a compile cache would save.

    A driver's flags are taken for such: only the driver knows.
    """
    return "roundtrip" in wanted() or not wanted() <= _OURS


def check() -> None:
    """Once all drivers have added their flags: name unknown ones, print the table for `help`.

    Says everything once in the life of a process.
    """
    with _lock:
        new = wanted() - _checked
        _checked.update(new)
    for name in sorted(new - FLAGS.keys()):
        hint = did_you_mean(name, FLAGS)
        log(f"{VARIABLE}: unknown flag {name!r}{hint}; {VARIABLE}=help lists all")
    if "help" in new and enabled("help"):
        width = max(map(len, FLAGS))
        for name, text in FLAGS.items():
            log(f"  {name:<{width}} {text}")


def log(text: str) -> None:
    """Write lines for a person who asked for them, to stderr."""
    sys.stderr.write(text + "\n")


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
