"""What the contexts of all drivers do alike: look at what they are given, close what they have."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from teflon.errors import DeviceTimeout, OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Fence, Program

P = TypeVar("P", bound=Program)
T = TypeVar("T")


def checked_program(program: Program, kind: type[P], driver: str, chip: str) -> P:
    """Return a program of this driver and chip. Raises ProgramError for any other."""
    if not isinstance(program, kind):
        raise ProgramError(
            f"program: driver is {program.driver!r}, must be {driver!r} (compile it for it)"
        )
    if program.chip != chip:
        raise ProgramError(
            f"program: chip is {program.chip!r}, must be {chip!r} (compile the model for this chip)"
        )
    return program


def check_inputs(program: Program, inputs: Sequence[Array]) -> None:
    """Refuse arrays that are not the program's inputs. Raises OptionError."""
    if len(inputs) != len(program.inputs):
        raise OptionError(
            f"program: {len(inputs)} inputs were given, must be {len(program.inputs)}"
        )
    for number, (array, wanted) in enumerate(zip(inputs, program.inputs, strict=True)):
        if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
            raise OptionError(
                f"program: input {number} is {array.dtype}{list(array.shape)}, must be "
                f"{wanted.dtype.numpy}{list(wanted.shape)}"
            )


def close_all(close: Callable[[T], None], things: Iterable[T]) -> None:
    """Close all things, whatever becomes of some; then raise the first error."""
    first: TeflonError | None = None
    for thing in things:
        try:
            close(thing)
        except TeflonError as error:
            first = first or error
    if first is not None:
        raise first


class LockedFence(Fence):
    """One inference: its outputs, or the error that it ended with, once it is complete.

    lock: the executable's; whoever holds it may complete the inference.
    """

    def __init__(self, driver: str, lock: threading.Lock) -> None:
        self._driver, self._lock = driver, lock
        self._outputs: list[Array] | None = None
        self._error: TeflonError | None = None

    @abstractmethod
    def deadline(self) -> int:
        """Return when an inference that starts now must be done, on the monotonic clock."""

    @abstractmethod
    def complete(self, deadline_ns: int) -> None:
        """Wait for the device and take outputs or error; the caller holds the lock.

        Raises DeviceTimeout when it is not done by then; any other error is kept for `wait`.
        """

    @property
    def _complete(self) -> bool:
        return self._outputs is not None or self._error is not None

    def done(self) -> bool:
        if self._complete:
            return True
        if not self._lock.acquire(blocking=False):
            return False  # somebody waits for it, or for one of the same program
        try:
            if not self._complete:
                self.complete(1)  # long ago: look, do not wait
        except DeviceTimeout:
            return False
        finally:
            self._lock.release()
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        if not self._complete:
            self._wait(timeout)
        if self._error is not None:
            raise self._error
        assert self._outputs is not None
        return self._outputs

    def _wait(self, timeout: float | None) -> None:
        deadline = self.deadline()
        if timeout is not None:
            deadline = time.monotonic_ns() + int(timeout * 1e9)
        if not self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise DeviceTimeout(
                f"{self._driver}: an inference is not done after {timeout:g} s, must be by then"
                " (wait longer, or again)"
            )
        try:
            if not self._complete:
                self.complete(deadline)
        finally:
            self._lock.release()
