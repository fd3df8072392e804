"""Checks of drivers that are written for interface 1.0: one small function for each limit.

New drivers use `teflon_common.rules`, which also knows how an operation is lowered, and takes the
numbers in a rule from the chip's row. This module stays for drivers outside of this project.
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
    first: bool = False  # later checks rely on it, and are skipped if it fails


class Checks:
    """A driver's checks, in the order of their declaration."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def requires(self, *ops: type[Op], first: bool = False) -> Callable[[F], F]:
        """Declare a check for some operations; it returns what is wrong, or None.

        Checks with `first` run before the others, which run only if all of these pass.
        """

        def declare(look: F) -> F:
            rule = " ".join((look.__doc__ or "").split()).rstrip(".")
            self._checks.append(Check(ops, rule, look, first))
            return look

        return declare

    def reasons(self, op: Op, *facts: Any) -> list[str]:
        """Return every rule that an operation breaks, with what it has instead in brackets.

        Every check gets the operation and then `facts`, for example the chip's limits.
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
