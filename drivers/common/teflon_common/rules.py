"""Rules of a driver: which operations it supports, and how it lowers them.

There is one `Rules` object for each family of operations:

RULES: Rules[Chip, Lower] = Rules()

@RULES.requires
def stride(op: Conv2D | DepthwiseConv2D, chip: Chip) -> str | None:
    \"\"\"Strides must be at most {max_stride}.\"\"\"
    return None if max(op.stride) <= chip.max_stride else f"stride is {op.stride}"

@RULES.lowers
def convolution(op: Conv2D | DepthwiseConv2D, state: State) -> list[Operation]:
    ...

The annotation of `op` says which operations a function is for. Users read the docstring of a check
in messages and in the docs; names in braces stand for fields of the chip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, get_args

from teflon.errors import UnsupportedOperation
from teflon.ir.graph import Op

Look = TypeVar("Look", bound=Callable[..., str | None])
Chip = TypeVar("Chip")
Lower = TypeVar("Lower", bound=Callable[..., Any])

_FIELD = re.compile(r"{(\w+)}")


def operations_of(function: Callable[..., Any]) -> tuple[type[Op], ...]:
    """Return the classes in the annotation of a function's parameter `op`.

    Raises TypeError if it has no annotation, or one that does not consist of operations.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    wanted = function.__annotations__.get("op")
    if isinstance(wanted, str):
        wanted = eval(wanted, function.__globals__)
    found = get_args(wanted) or (wanted,)
    if not all(isinstance(kind, type) and issubclass(kind, Op) for kind in found):
        raise TypeError(f"{name}: `op` is annotated {wanted!r}, must be operations of teflon.ir")
    return found


@dataclass(frozen=True, eq=False)
class Check(Generic[Chip]):
    """A limit of a chip: the function that checks it, and whether other checks rely on it."""

    look: Callable[..., str | None]
    first: bool = False

    @cached_property
    def ops(self) -> tuple[type[Op], ...]:
        """The operations that it checks; `Op` alone stands for all operations of the family."""
        return operations_of(self.look)

    @cached_property
    def template(self) -> str:
        """The text of the rule, with names of the chip's fields in braces."""
        return " ".join((self.look.__doc__ or "").split()).rstrip(".")

    def rule(self, *chips: Chip) -> str:
        """Return the rule with the numbers of these chips; different numbers come with the chips'
        names.
        """

        def numbers(match: re.Match[str]) -> str:
            values: dict[str, list[str]] = {}
            for chip in chips:
                value = str(getattr(chip, match[1]))
                values.setdefault(value, []).append(str(getattr(chip, "name", chip)))
            if len(values) == 1:
                return next(iter(values))
            return " or ".join(f"{value} ({', '.join(names)})" for value, names in values.items())

        return _FIELD.sub(numbers, self.template)


class Rules(Generic[Chip, Lower]):
    """The checks and the lowering functions of a family of operations.

    Several families are joined by `Rules(convolutions.RULES, pooling.RULES)`. An operation belongs
    to at most one family.
    """

    def __init__(
        self,
        *families: Rules[Chip, Lower],
        refusal: str = "the driver does not run {} on this NPU",
    ) -> None:
        """Join families. refusal: the reason for an operation that no function lowers."""
        self._families = families
        self._refusal = refusal
        self._checks: list[Check[Chip]] = []
        self._lower: list[Lower] = []

    def requires(self, look: Look) -> Look:
        """Declare a check: it returns what is wrong with an operation on a chip, or None."""
        self._checks.append(Check(look))
        return look

    def requires_first(self, look: Look) -> Look:
        """Declare a check on which the others rely: if it fails, they are not called."""
        self._checks.append(Check(look, first=True))
        return look

    def lowers(self, function: Lower) -> Lower:
        """Declare the function that lowers some operations."""
        self._lower.append(function)
        return function

    @cached_property
    def _lowerings(self) -> dict[type[Op], Lower]:
        found: dict[type[Op], Lower] = {}
        for kinds, function in self._declarations():
            for kind in kinds:
                if kind in found:
                    raise TypeError(f"{kind.__name__}: is lowered twice, must be lowered once")
                found[kind] = function
        return found

    def _declarations(self) -> Iterator[tuple[Sequence[type[Op]], Lower]]:
        for function in self._lower:
            yield operations_of(function), function
        for family in self._families:
            yield from (((kind,), how) for kind, how in family._lowerings.items())

    @cached_property
    def _by_kind(self) -> dict[type[Op], tuple[Check[Chip], ...]]:
        found: dict[type[Op], tuple[Check[Chip], ...]] = {}
        for check in self._checks:
            for kind in self.lowered if check.ops == (Op,) else check.ops:
                found[kind] = (*found.get(kind, ()), check)
        for family in self._families:  # what is shared comes first
            for kind, checks in family._by_kind.items():
                found[kind] = (*found.get(kind, ()), *checks)
        return found

    @property
    def lowered(self) -> tuple[type[Op], ...]:
        """The operations that are lowered."""
        return tuple(self._lowerings)

    @property
    def checked(self) -> tuple[type[Op], ...]:
        """The operations that are checked."""
        return tuple(self._by_kind)

    def __iter__(self) -> Iterator[tuple[tuple[type[Op], ...], Check[Chip]]]:
        """Yield each check with the operations that it is for."""
        kinds_of: dict[Check[Chip], list[type[Op]]] = {}
        for kind, checks in self._by_kind.items():
            for check in checks:
                kinds_of.setdefault(check, []).append(kind)
        return iter((tuple(kinds), check) for check, kinds in kinds_of.items())

    def reasons(self, op: Op, chip: Chip) -> list[str]:
        """Return every rule that an operation breaks, with its own number in brackets.

        For an operation that no function lowers there is one reason. Never raises.
        """
        if type(op) not in self._lowerings:
            return [self._refusal.format(op.kind_name)]
        if shapeless := _without_bounds(op):
            return [shapeless]
        checks = self._by_kind.get(type(op), ())
        for stage in (True, False):
            found = [
                f"{check.rule(chip)} ({wrong})"
                for check in checks
                if check.first is stage and (wrong := check.look(op, chip)) is not None
            ]
            if found:
                return found
        return []

    def lowering(self, op: Op) -> Lower:
        """Return the function that lowers an operation. Raises UnsupportedOperation without one."""
        found = self._lowerings.get(type(op))
        if found is None:
            raise UnsupportedOperation(op.title, [self._refusal.format("it")])
        return found


_MOST = 1 << 24
"""No chip has sizes beyond this; rules may compute with arrays of one axis' length below it."""


def _without_bounds(op: Op) -> str:
    """Return why no rule can judge an operation: it has no elements, or far too many."""
    for value in (*op.inputs_present, *op.results):
        if not value.type.size:
            return f"tensors must have elements ({value.name!r} is {list(value.shape)})"
        if max(value.shape, default=1) > _MOST:
            return f"sizes must be at most {_MOST} ({value.name!r} is {list(value.shape)})"
    return ""
