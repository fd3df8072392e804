"""TEFLON_DEBUG: a table of flags, read once; a flag that is off costs one set lookup."""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Mapping

FLAGS: dict[str, str] = {
    "help": "print this table",
    "verbose": "tables of operations, tensors and times, in the format of Mesa's Teflon",
    "partition": "where every operation runs, and why not on the NPU",
    "ir": "the graph after every pass that changed it",
    "passes": "every pass with the time it took",
    "stream": "every compiled program, its command lists decoded",
    "ioctl": "decoded requests to the kernel",
    "traceback": "the Python traceback when a command of the command line fails",
}
"""Flag name -> help. Drivers add rows with `add_flags` when they are loaded."""


def add_flags(flags: Mapping[str, str]) -> None:
    """Add a driver's own flags; a name that is taken keeps its first meaning."""
    for name, text in flags.items():
        FLAGS.setdefault(name, text)


@functools.cache
def _enabled() -> frozenset[str]:
    names = [n.strip() for n in os.environ.get("TEFLON_DEBUG", "").split(",") if n.strip()]
    for name in names:
        if name not in FLAGS:
            near = difflib.get_close_matches(name, FLAGS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            log(f"TEFLON_DEBUG: unknown flag {name!r}{hint}; TEFLON_DEBUG=help lists all")
    if "help" in names:
        for name, text in FLAGS.items():
            log(f"  {name:<12} {text}")
    return frozenset(names)


def enabled(flag: str) -> bool:
    """Whether TEFLON_DEBUG names this flag."""
    return flag in _enabled()


def log(text: str) -> None:
    """Write one line for a person who asked for it, to stderr."""
    sys.stderr.write(text + "\n")
