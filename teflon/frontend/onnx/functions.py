"""Functions of one quantised tensor, element by element: they become tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from teflon.frontend.onnx import tensors as records
from teflon.frontend.onnx.folding import ELEMENTWISE, evaluate
from teflon.frontend.onnx.layout import View
from teflon.frontend.onnx.matching import Matcher
from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.tensors import EIGHT_BIT, Function, Tensor
from teflon.frontend.onnx.types import FLOAT, QType
from teflon.ir.types import Array


class Functions:
    """Notes what float nodes compute of each of the 256 values of a quantised tensor."""

    def __init__(self, model: Model, tensors: Mapping[str, Tensor], match: Matcher) -> None:
        self.model = model
        self.tensors = tensors
        self.match = match

    def note(self, node: Node) -> bool:
        """Note what a node computes of each value of one quantised tensor; say whether it does."""
        if node.domain or node.kind not in ELEMENTWISE or node.captures or len(node.outputs) != 1:
            return False
        found = self._operands(node)
        if found is None:
            return False
        view, feeds, called = found
        made = evaluate(self.model, node, feeds)
        if made is None or made[0].dtype != np.float32 or made[0].shape != (256,):
            return False
        out = self.tensors[node.outputs[0]]
        out.function = Function(view, made[0], (*called, node.kind))
        out.code, out.shape, out.pending = FLOAT, view.shape, node
        return True

    def _operands(self, node: Node) -> tuple[View, list[Array | None], tuple[str, ...]] | None:
        """Return the quantised tensor, and what each operand is for its 256 values."""
        feeds: list[Array | None] = []
        views: list[View] = []
        called: tuple[str, ...] = ()
        for name in node.inputs:
            tensor = self.tensors[name] if name else None
            if tensor is None:
                feeds.append(None)
            elif (data := self.match.constant(tensor)) is not None:
                if data.size != 1:
                    return None
                feeds.append(data.reshape(()))
            elif (function := _as_function(tensor)) is not None:
                views.append(function.of)
                feeds.append(function.numbers)
                called = (*called, *function.called)
            else:
                return None
        if not views or any((v.value, v.perm) != (views[0].value, views[0].perm) for v in views):
            return None
        return views[0], feeds, called


def _as_function(tensor: Tensor) -> Function | None:
    """Return the float numbers of a tensor for each value of a quantised one."""
    if tensor.function is not None:
        return tensor.function
    view = tensor.steps
    if view is None or view.value.is_constant or view.type.dtype not in EIGHT_BIT:
        return None
    kind = view.type.quantization
    if kind is None or kind.per_axis:
        return None
    steps = np.arange(256, dtype=np.uint8).view(view.type.dtype.numpy)
    numbers = records.dequantised(steps, QType(view.type.dtype, kind.scales, kind.zero_points))
    return Function(view, numbers, ())
