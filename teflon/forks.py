"""What happens at a fork: locks are free in the child, and things of the parent say so there.

A fork copies all memory, with every lock as it is, but only the thread that forks. A lock that
another thread holds at that moment stays locked in the child for ever. So every lock of this
package comes from `lock` or `rlock`, and whatever has threads or waits for them is watched.
What belongs to a device refuses to work in a child (`check_process`): parent and child would share
one open file, and a handle that the child closes would be gone for the parent too.

Handlers run where Python forks (`os.fork`, `multiprocessing`). They do not run where C code forks.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from teflon.errors import DeviceError

T = TypeVar("T")

_FEWEST = 256


class _Living:
    """Things as long as they live, whose end costs nothing: no code of ours runs then.

    (A WeakSet runs code, into which Ctrl-C may come, and Python cannot raise that from there.)
    """

    def __init__(self) -> None:
        self._found: dict[int, weakref.ref[Any]] = {}
        self._numbers = itertools.count()
        self._most = _FEWEST

    def add(self, thing: Any) -> None:
        self._found[next(self._numbers)] = weakref.ref(thing)
        if len(self._found) > self._most:
            for number, found in list(self._found.items()):
                if found() is None:
                    self._found.pop(number, None)
            self._most = max(_FEWEST, 2 * len(self._found))

    def __iter__(self) -> Iterator[Any]:
        for found in list(self._found.values()):
            if (thing := found()) is not None:
                yield thing


_locks, _watched = _Living(), _Living()


def lock() -> threading.Lock:
    """Return a lock that is free in a forked child.

    It is Python's own class: `with` takes it in one step that Ctrl-C cannot divide.
    """
    made = threading.Lock()
    _locks.add(made)
    return made


def rlock() -> Any:
    """Return a reentrant lock that is free in a forked child."""
    made = threading.RLock()
    _locks.add(made)
    return made


def watch(thing: Any) -> None:
    """Call `thing.after_fork()` in every forked child, for as long as `thing` lives.

    The method must only change `thing` itself. It must not wait or raise. All locks are free then.
    """
    _watched.add(thing)


def in_child(action: Callable[[], object]) -> None:
    """Call a function in every forked child; it must not wait or raise. All locks are free then."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def check_process(owner: int, where: str) -> None:
    """Raise DeviceError in a forked child of the process `owner`, which opened a device."""
    if os.getpid() != owner:
        raise DeviceError(
            f"{where}: was opened by process {owner}, must be used there "
            f"(open it again after the fork, here in process {os.getpid()})"
        )


def _locks_of_properties() -> Iterator[Any]:
    """Yield the locks that Python before 3.12 has in each `cached_property` of our classes."""
    for name, module in list(sys.modules.items()):
        if name.startswith("teflon"):
            for kind in list(vars(module).values()):
                if isinstance(kind, type):
                    found = [p for p in vars(kind).values() if isinstance(p, cached_property)]
                    yield from (getattr(p, "lock", None) for p in found)


def _renew() -> None:
    properties = _locks_of_properties() if sys.version_info < (3, 12) else ()
    for made in (*_locks, *filter(None, properties)):
        made._at_fork_reinit()  # as the standard library does with its own locks
    for thing in _watched:
        thing.after_fork()


in_child(_renew)
