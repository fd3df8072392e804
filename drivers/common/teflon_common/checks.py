"""Declare what a driver can run: one small function per limit, its docstring is the rule.

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

F = TypeVar("F", bound=Callable[[Any], str | None])


@dataclass(frozen=True)
class Check:
    """A limit: which operations it is about, its rule, and the function that looks."""

    ops: tuple[type[Op], ...]
    rule: str
    look: Callable[[Any], str | None]


class Checks:
    """A driver's checks, in the order in which they were declared."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def requires(self, *ops: type[Op]) -> Callable[[F], F]:
        """Declare a check for some operations; it returns what is wrong, or None."""

        def declare(look: F) -> F:
            rule = " ".join((look.__doc__ or "").split()).rstrip(".")
            self._checks.append(Check(ops, rule, look))
            return look

        return declare

    def reasons(self, op: Op) -> list[str]:
        """Return every rule that an operation breaks, with what it has instead."""
        return [
            f"{check.rule} ({wrong})"
            for check in self._checks
            if isinstance(op, check.ops) and (wrong := check.look(op)) is not None
        ]

    @property
    def ops(self) -> tuple[type[Op], ...]:
        """All operations that have a check."""
        return tuple(dict.fromkeys(op for check in self._checks for op in check.ops))

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)
