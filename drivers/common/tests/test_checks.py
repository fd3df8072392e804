"""Checks as drivers for interface 1.0 declare them."""

from __future__ import annotations

from teflon.ir.builder import Builder
from teflon.ir.graph import Op
from teflon.ir.ops import Relu, Tanh
from teflon_common.checks import Checks

CHECKS = Checks()


@CHECKS.requires(Relu, Tanh, first=True)
def one_axis(op: Op, most: int) -> str | None:
    """Tensors must have one axis."""
    return None if op.results[0].type.rank == 1 else f"{op.results[0].type.rank} axes"


@CHECKS.requires(Relu)
def size(op: Op, most: int) -> str | None:
    """Tensors must be small."""
    return None if op.results[0].type.size <= most else f"{op.results[0].type.size} elements"


def relu(*shape: int) -> Op:
    b = Builder("one")
    b.output(b.relu(b.input("x", "i8", shape, scale=1.0)))
    return b.build().ops[0]


def test_reasons_have_the_rule_and_what_is_there_instead() -> None:
    assert CHECKS.ops == (Relu, Tanh)
    assert CHECKS.reasons(relu(3), 4) == []
    assert CHECKS.reasons(relu(5), 4) == ["Tensors must be small (5 elements)"]


def test_checks_that_come_first_hide_the_others() -> None:
    assert CHECKS.reasons(relu(5, 5), 4) == ["Tensors must have one axis (2 axes)"]
    assert [check.rule for check in CHECKS] == [
        "Tensors must have one axis", "Tensors must be small",
    ]  # fmt: skip
