"""Sessions of a runtime, and the states that they hold for streams of inferences.

A runtime may keep in a session what no tensor shows. The content of such a state (`teflon.ir.held`)
is an array with one `Kept`: the session that has it, which nothing else uses. Whoever forgets the
array frees the session.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from teflon import forks
from teflon.errors import DeviceError
from teflon.ir.types import Array
from teflon_common.hosted.host import Session
from teflon_common.hosted.program import HostedProgram


@dataclass(eq=False)
class Opened:
    """A session of one process: after a fork the child opens its own."""

    session: Session
    lock: threading.Lock = field(default_factory=forks.lock)
    pid: int = field(default_factory=os.getpid)
    turns: int = 0
    """Inferences that have begun."""

    def __post_init__(self) -> None:
        _OPENED.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it."""
        return self.pid == os.getpid()


_OPENED: weakref.WeakSet[Opened] = weakref.WeakSet()
_OF_PARENTS: list[Opened] = []
"""Never freed: their threads are the parent's, and to free them could wait for these."""

forks.in_child(lambda: _OF_PARENTS.extend(_OPENED))


@dataclass(frozen=True, eq=False)
class Kept:
    """What a session of a program holds behind one of its inferences, the one with number `turn`.

    It is lost once the session has begun another: the runtime cannot go back.
    """

    program: HostedProgram
    opened: Opened
    turn: int

    def as_array(self) -> Array:
        """Return the content of a state."""
        array = np.empty(1, object)
        array[0] = self
        return array


def session_of(program: HostedProgram, contents: Sequence[Array]) -> Opened | None:
    """Return the session that holds the contents of a program's states; None to begin anew.

    That is so at first, and where an inference with these contents has failed: the session may have
    changed by then. Raises DeviceError for contents that are not one inference's of this program,
    or of the process before a fork.
    """
    found = {_kept(program, array) for array in contents}
    if len(found) != 1:
        raise DeviceError(f"{program.driver}: {program.title}: states are of several inferences,"
                          " must be of one")  # fmt: skip
    (kept,) = found
    if kept is None:
        return None
    if not kept.opened.is_ours:
        raise DeviceError(f"{program.driver}: {program.title}: its state is in the process that"
                          " forked this one, must begin anew here (reset_state)")  # fmt: skip
    return kept.opened if kept.turn == kept.opened.turns else None


def _kept(program: HostedProgram, array: Array) -> Kept | None:
    if array.size == 0:
        return None
    kept = array.flat[0]
    if not isinstance(kept, Kept) or kept.program is not program:
        raise DeviceError(f"{program.driver}: {program.title}: a state is not this program's, must"
                          " be what an inference of it returned")  # fmt: skip
    return kept
