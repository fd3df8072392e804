"""What the contexts of all drivers do alike: look at what they are given, close what they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from teflon.errors import OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Program

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
