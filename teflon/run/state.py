"""What a loaded model keeps between inferences: the content of its states, for each stream."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from teflon import forks
from teflon.ir.graph import State
from teflon.ir.types import Array


class Memory:
    """The states' content of each stream, and a lock for each: a stream's inferences follow one
    another. Several threads may use it.

    A stream begins with the initial content. An inference that fails changes nothing. A content
    need not be numbers: of a state that a runtime holds it is the driver's (`teflon.ir.held`), who
    begins anew with one that an inference has used already.
    """

    def __init__(self, states: Sequence[State]) -> None:
        self._initial = [state.initial for state in states]
        self._content: dict[Hashable, list[Array]] = {}
        self._turns: dict[Hashable, AbstractContextManager[bool]] = {}
        self._lock = forks.lock()

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self._initial)

    @contextmanager
    def turn(self, stream: Hashable) -> Iterator[list[Array]]:
        """Give a stream's content to the caller, who may replace the list's items in place.

        Blocks while another thread has it. After an exception the content is as before.
        """
        with self._lock:
            turn = self._turns.setdefault(stream, forks.lock())
        with turn:
            with self._lock:
                content = list(self._content.get(stream, self._initial))
                self._content[stream] = content
            lent = list(content)
            yield lent
            with self._lock:
                if self._content.get(stream) is content:  # else `reset` came meanwhile
                    self._content[stream] = lent

    def reset(self, *streams: Hashable) -> None:
        """Forget what streams have kept, of none named: all; they begin anew."""
        with self._lock:
            for stream in streams or list(self._content):
                self._content.pop(stream, None)
