# Ref: docs/hardware/rocket.md §5.2, §5.3
"""Which convolution also does which addition in Mesa's programs."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.ir.graph import Graph, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D

Convolved = Conv2D | DepthwiseConv2D


@dataclass(frozen=True)
class Host:
    """A convolution, and the addition that it does as well.

    feeds_addition: its result is what another one adds.
    """

    op: Convolved
    addition: Add | None = None
    feeds_addition: bool = False

    @property
    def result(self) -> Value:
        """What is written."""
        return self.op.output if self.addition is None else self.addition.output

    @property
    def operand(self) -> Value | None:
        """What is added."""
        return None if self.addition is None else self.addition.b

    @property
    def in_addition(self) -> bool:
        return self.addition is not None or self.feeds_addition


def hosts(graph: Graph) -> dict[Convolved, Host]:
    """Return the convolutions of a graph in order: one that makes the first operand of an addition
    adds the second. Every addition has one (see `veto`).
    """
    found: dict[Convolved, Host] = {}
    makers: dict[Value, Convolved] = {}
    for op in graph.ops:
        if isinstance(op, Conv2D | DepthwiseConv2D):
            found[op] = Host(op)
            makers[op.output] = op
        elif isinstance(op, Add):
            if (other := makers.get(op.b)) is not None:
                found[other] = Host(other, found[other].addition, feeds_addition=True)
            maker = makers.pop(op.a)
            found[maker] = Host(maker, op, found[maker].feeds_addition)
            makers[op.output] = maker
    return found
