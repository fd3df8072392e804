"""Make the listing of a TFLite model, from a file or from a delegate's view of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView
from teflon.ir.graph import Value
from teflon.ir.listing import ListedNode, ListedTensor, Listing
from teflon.ir.types import Activation


def listing(tensors: Sequence[Value], nodes: Iterable[NodeView]) -> Listing:
    """Return all tensors, by number, and all nodes of a model."""
    return Listing(
        tuple(ListedTensor(v.type, v.is_constant) for v in tensors),
        tuple(_node(node) for node in nodes),
    )


def _node(node: NodeView) -> ListedNode:
    return ListedNode(
        node.index,
        node.name,
        node.version,
        tuple(-1 if v is None else v.index for v in node.inputs),
        tuple(v.index for v in node.outputs),
        _activation(node),
        (_option(node, "dilation_h_factor", 1), _option(node, "dilation_w_factor", 1)),
    )


def _activation(node: NodeView) -> Activation:
    code = _option(node, "fused_activation_function", 0)
    known = 0 <= code < len(schema.ACTIVATIONS)
    return schema.ACTIVATIONS[code] if known else Activation.SIGN_BIT


def _option(node: NodeView, name: str, absent: int) -> int:
    found = node.options.get(name)
    return absent if found is None else int(found)
