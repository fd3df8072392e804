"""The functions of one element that Mesa looks up in a table; it takes them all."""

# Ref: docs/hardware/etnaviv.md sections 5.5, 10.1

from __future__ import annotations

from teflon.ir.ops import Abs, Logistic, Relu
from teflon_common.rules import Rules
from teflon_etnaviv.mesa.limits import Limits
from teflon_etnaviv.mesa.lowering import Lower, Lowering
from teflon_etnaviv.operations import Operation
from teflon_etnaviv.tensors import Tensor
from teflon_etnaviv.tp import tables

RULES = Rules[Limits, Lower]()


def _looked_up(
    op: Relu | Abs | Logistic, state: Lowering, source: Tensor, kind: type[tables.Table]
) -> Operation:
    """Return the table with one job, or with one for each core."""
    jobs = 1 if source.shape[1] < kind.shared_from else state.chip.tp_core_count
    return kind(op.where, (source,), (state.tensor(op.output),), jobs)


@RULES.lowers
def relu(op: Relu, state: Lowering) -> Operation:
    """Cut off at zero."""
    return _looked_up(op, state, state.read(op.input), tables.Relu)


@RULES.lowers
def absolute(op: Abs, state: Lowering) -> Operation:
    """Fold the negative half up."""
    return _looked_up(op, state, state.read(op.input), tables.Abs)


@RULES.lowers
def logistic(op: Logistic, state: Lowering) -> Operation:
    """Take the table that is made for the input's scale."""
    return _looked_up(op, state, state.read(op.input), tables.Logistic)
