"""What Mesa takes of sums and differences, and how it lowers them."""

# Ref: docs/hardware/etnaviv.md sections 4.9, 10.1

from __future__ import annotations

from typing import Self

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


class MesaSub(NN):
    """A subtraction. What should be put between it and its result is lost on the way (B9)."""

    def writing(self, number: int, tensor: Tensor) -> Self:
        return self


def _operands(op: Add | Sub, state: Lowering) -> tuple[Tensor, ...]:
    """Return both operands, which memory planning puts one behind the other."""
    return state.read(op.a), state.read(op.b)


@RULES.lowers
def add(op: Add, state: Lowering) -> Operation:
    """Run on both operands, in the layout in which they are."""
    operands, target = _operands(op, state), state.tensor(op.output)
    return NN(op.where, operands, (target,), addition(op, state.chip), CODING)


@RULES.lowers
def sub(op: Sub, state: Lowering) -> Operation:
    """Give the result the layout of the model's first tensor, whatever that is (B9)."""
    operands, target = _operands(op, state), state.tensor(op.output)
    first = next((v for v in state.graph.values if v.index == 0), None)
    if first is not None:
        state.sources[target] = state.tensor(first)
    return MesaSub(op.where, operands, (target,), addition(op, state.chip), CODING)
