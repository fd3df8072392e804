"""Functions of one element, looked up in a table by the TP cores."""

# Ref: docs/hardware/etnaviv.md section 5.5

from __future__ import annotations

from teflon.ir.ops import Abs, Logistic, Quantize, Relu
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.tp import tables

RULES = Rules[Chip, Lower]()


def _look_up(
    op: Relu | Abs | Logistic | Quantize, state: Lowering, kind: type[tables.Table]
) -> None:
    """Look up in the layout and order in which the input is: each byte is mapped alone."""
    state.look_up(op.where, *state.alike(op.input, op.output), kind)


@RULES.lowers
def relu(op: Relu, state: Lowering) -> None:
    """Cut off at zero."""
    _look_up(op, state, tables.Relu)


@RULES.lowers
def absolute(op: Abs, state: Lowering) -> None:
    """Fold the negative half up."""
    _look_up(op, state, tables.Abs)


@RULES.lowers
def logistic(op: Logistic, state: Lowering) -> None:
    """Take the table that is made for the input's scale."""
    _look_up(op, state, tables.Logistic)


@RULES.lowers
def quantize(op: Quantize, state: Lowering) -> None:
    """Keep the numbers, change their scale."""
    _look_up(op, state, tables.Requantise)
