"""A row of the table of operators: how an ONNX operator is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teflon.frontend.onnx.layout import View
from teflon.frontend.onnx.site import Site
from teflon.ir import Op

Read = Callable[[Site], View | Sequence[View]]
"""Returns the results as values of the IR; gives up with `Site.unread`."""

MICROSOFT = "com.microsoft"


@dataclass(frozen=True, eq=False, repr=False)
class Quantities:
    """Where an operator with quantised operands has scales and zero points.

    `operands` has for each operand of the float operator the places of values, scale and zero point
    (one number: values without a scale of their own, a bias), `result` those of scale and zero
    point of the result. With `repeated` the triples go on to the last operand.
    """

    operands: tuple[tuple[int, ...], ...]
    result: tuple[int, int]
    repeated: bool = False
    axis: int = 0
    """The axis that several scales of the second operand run along."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Row:
    """How the reader takes one operator.

    `moves`: the result's elements are elements of the first operand; any type will do, and a scale
    stays as it is. Other operators must be quantised on both sides.
    """

    kind: str
    read: Read
    classes: tuple[type[Op], ...]
    """Operations of the IR that it becomes."""
    note: str = ""
    """What is asked of it, for the table in the documentation."""
    moves: bool = False
    domain: str = ""
    quantities: Quantities | None = None
    inputs: tuple[int, int] = (1, 1)
    """At least and at most so many operands."""
