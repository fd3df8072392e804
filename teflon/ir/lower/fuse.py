"""Let the operation before a stand-alone RELU, RELU6 or RELU_N1_TO_1 do its work.

For every driver whose operations clamp their results: one operation and one tensor fewer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Graph, Op
from teflon.ir.lower.activations import CLAMPABLE, clamp_of
from teflon.ir.quantized import activation_range
from teflon.ir.rewrite import only_user, without
from teflon.ir.types import Activation

_ACTIVATIONS: dict[type[Op], Activation] = {
    ops.Relu: Activation.RELU,
    ops.Relu6: Activation.RELU6,
    ops.ReluN1To1: Activation.RELU_N1_TO_1,
}


def fuse_activations(graph: Graph) -> Graph:
    """Fold a stand-alone activation into its producer where the result is the same bits.

    That is where nobody else reads what lies between them, and both tensors have one type: then
    requantisation is the identity and the activation a clamp of the producer's own result.
    """
    made: dict[Op, Op] = {}
    fused: set[Op] = set()
    for op in graph.ops:
        activation = _ACTIVATIONS.get(type(op))
        producer = graph.producer(op.inputs_present[0]) if activation else None
        if activation is None or producer is None or producer in fused:
            continue
        if only_user(graph, producer.results[0]) is not op:
            continue
        if (replacement := _fused(made.get(producer, producer), op, activation)) is not None:
            made[producer] = replacement
            fused.add(op)
    return without(graph.with_ops(made.get(op, op) for op in graph.ops), fused) if made else graph


def _fused(producer: Any, op: Op, activation: Activation) -> Op | None:
    if getattr(producer, "activation", None) not in CLAMPABLE or not hasattr(producer, "clamp"):
        return None
    result = op.results[0]
    if producer.output.type != result.type:
        return None
    fields: dict[str, Any] = {"output": result, "location": producer.where}
    if result.type.quantization is None:
        if producer.activation is not Activation.NONE:
            return None
        fields["activation"] = activation
    else:
        low, high = clamp_of(producer)
        least, most = activation_range(activation, result.type)
        if max(low, least) > min(high, most):
            return None
        fields |= {"activation": Activation.NONE, "clamp": (max(low, least), min(high, most))}
    done: Op = dataclasses.replace(producer, **fields)
    return done
