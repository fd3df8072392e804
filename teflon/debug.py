"""Debugging output: the flags of TEFLON_DEBUG, which is read once.

A flag that is not set costs one set lookup.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from teflon import forks
from teflon.errors import did_you_mean

FLAGS: dict[str, str] = {
    "help": "print this table",
    "verbose": "tables of operations, tensors and times, in the format of Mesa's Teflon",
    "partition": "where every operation runs, and why not on the NPU",
    "passes": "every pass with the time it took",
    "ir": "the graph after every pass that changed it",
    "roundtrip": "after every pass that changed the graph, write it as text, read the text and go"
    " on with the result; an error if both differ",
    "tasks": "every compiled program: buffers, jobs, tasks",
    "stream": "every compiled program with its decoded command lists",
    "nocache": "do not use the compile cache",
    "ioctl": "decoded requests to the kernel",
    "bos": "write buffers into the working directory, as mesa-KIND-PROGRAM-NUMBER.bin",
    "sync": "wait for each submit before going on; rocket submits each operation alone, so that an"
    " error names the operation that hung",
    "trace": "write a timeline for Perfetto or chrome://tracing (file: TEFLON_TRACE)",
    "traceback": "the Python traceback when a command of the command line fails",
}
"""Flag name -> help. Drivers add rows with `add_flags` when they are loaded."""

VARIABLE = "TEFLON_DEBUG"

_CORE_FLAGS = frozenset(FLAGS)

_on: frozenset[str] | None = None
_reported: set[str] = set()
_lock = forks.lock()


def add_flags(flags: Mapping[str, str]) -> None:
    """Add a driver's own flags; a name that exists already keeps its first meaning."""
    for name, text in flags.items():
        FLAGS.setdefault(name, text)


def enable(text: str) -> None:
    """Set more flags for this process; `text` separates them by commas, as TEFLON_DEBUG does.

    Call `check` once the drivers are loaded: it reports unknown flags.
    """
    global _on
    with _lock:
        _on = active_flags() | _names(text)


def active_flags() -> frozenset[str]:
    """Return all flags that are set, also unknown ones."""
    global _on
    if _on is None:
        _on = _names(os.environ.get(VARIABLE, ""))
    return _on


def enabled(flag: str) -> bool:
    """Whether this flag is set."""
    return flag in (active_flags() if _on is None else _on)


def bypasses_cache() -> bool:
    """Whether a flag is set that shows or changes work which a compile cache would save.

    Every flag of a driver counts as such a flag: only the driver knows what it shows.
    """
    return "roundtrip" in active_flags() or not active_flags() <= _CORE_FLAGS


def check() -> None:
    """Report unknown flags, and print the table of flags for `help`.

    Call it when all drivers have added their flags. A process reports each flag once.
    """
    with _lock:
        new = active_flags() - _reported
        _reported.update(new)
    for name in sorted(new - FLAGS.keys()):
        hint = did_you_mean(name, FLAGS)
        log(f"{VARIABLE}: unknown flag {name!r}{hint}; {VARIABLE}=help lists all")
    if "help" in new and enabled("help"):
        width = max(map(len, FLAGS))
        for name, text in FLAGS.items():
            log(f"  {name:<{width}} {text}")


def log(text: str) -> None:
    """Write lines to stderr."""
    sys.stderr.write(text + "\n")


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
