"""Turn fused activations of quantised operations into integer clamps.

For every driver: hardware clamps integers, and knows nothing of the tensor's scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from teflon.ir.graph import Graph, Op
from teflon.ir.quantized import activation_range
from teflon.ir.rewrite import rewrite
from teflon.ir.types import Activation

CLAMPABLE = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def lower_activations(graph: Graph) -> Graph:
    """Set `clamp` in place of an activation that clamps a quantised result.

    A clamp to the whole range of the type is left out. TANH and SIGN_BIT stay.
    """
    return rewrite(graph, _lower)


def clamp_of(op: Any) -> tuple[int, int]:
    """Return the integer range that a quantised operation's result is clamped to."""
    if op.clamp is not None:
        low, high = op.clamp
        return int(low), int(high)
    return activation_range(op.activation, op.output.type)


def _lower(op: Op, graph: Graph) -> Sequence[Op] | None:
    activation = getattr(op, "activation", Activation.NONE)
    if activation is Activation.NONE or activation not in CLAMPABLE or not hasattr(op, "clamp"):
        return None
    type_ = op.results[0].type
    if type_.quantization is None or not type_.dtype.is_quantizable:
        return None
    clamp = clamp_of(op)
    fields: dict[str, Any] = {
        "activation": Activation.NONE,
        "clamp": None if clamp == type_.dtype.range else clamp,
    }
    return [dataclasses.replace(op, **fields)]
