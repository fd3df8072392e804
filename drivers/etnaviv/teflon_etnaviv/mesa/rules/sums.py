"""What Mesa takes of sums and differences, and how it lowers them."""

# Ref: docs/hardware/etnaviv.md sections 4.9, 10.1

from __future__ import annotations

from collections.abc import Sequence

from teflon.ir.ops import Add, Sub
from teflon_common.rules import Rules
from teflon_etnaviv.mesa.coding import CODING
from teflon_etnaviv.mesa.layers.sums import addition
from teflon_etnaviv.mesa.limits import Limits
from teflon_etnaviv.mesa.lowering import Lower, Lowering
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.operations import Operation
from teflon_etnaviv.tensors import Tensor

RULES = Rules[Limits, Lower]()


@RULES.requires
def computed(op: Add | Sub, limits: Limits) -> str | None:
    """Both operands of a sum must be computed, not constant."""
    found = next((v for v in (op.a, op.b) if v.is_constant), None)
    return f"{found.name!r} is constant" if found else None


@RULES.lowers
def sum_(op: Add | Sub, state: Lowering, inputs: Sequence[Tensor]) -> Operation:
    """Run on both operands, which memory planning puts one behind the other."""
    target = state.tensor(op.output)
    return NN(op.where, tuple(inputs[:2]), (target,), addition(op, state.chip), CODING)
