"""Checks of a driver: one small function for each limit, with the rule as its docstring.

CHECKS = Checks()

@CHECKS.requires(Conv2D)
def no_dilation(conv: Conv2D) -> str | None:
    \"\"\"Dilation must be 1 in both directions.\"\"\"
    return None if conv.dilation == (1, 1) else f"dilation is {conv.dilation}"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from teflon.ir.graph import Op

F = TypeVar("F", bound=Callable[..., str | None])


@dataclass(frozen=True)
class Check:
    """A limit: the operations that it is for, its rule, and the function that checks it."""

    ops: tuple[type[Op], ...]
    rule: str
    look: Callable[..., str | None]
    first: bool = False  # the other checks rely on it: if it fails, they are not called


class Checks:
    """A driver's checks, in the order in which they were declared."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def requires(self, *ops: type[Op], first: bool = False) -> Callable[[F], F]:
        """Declare a check for some operations; it returns what is wrong, or None.

        With `first` the others rely on it: they are called only if all such checks pass.
        """

        def declare(look: F) -> F:
            rule = " ".join((look.__doc__ or "").split()).rstrip(".")
            self._checks.append(Check(ops, rule, look, first))
            return look

        return declare

    def reasons(self, op: Op, *facts: Any) -> list[str]:
        """Return every rule that an operation breaks, with its own number in brackets.

        `facts`, for example the chip's limits, are passed to each check after the operation.
        """
        mine = [check for check in self._checks if isinstance(op, check.ops)]
        for stage in (True, False):
            found = [
                f"{check.rule} ({wrong})"
                for check in mine
                if check.first is stage and (wrong := check.look(op, *facts)) is not None
            ]
            if found:
                return found
        return []

    @property
    def ops(self) -> tuple[type[Op], ...]:
        """All operations that have a check."""
        return tuple(dict.fromkeys(op for check in self._checks for op in check.ops))

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)
