"""Write small ONNX models: one call for each node, names by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
NEWEST = onnx.defs.onnx_opset_version()
"""The newest opset of the installed package."""

_IR_VERSIONS = {11: 6, 13: 7, 17: 8, 19: 9, 21: 10}


class Net:
    """A model in the making; `op`, `weight` and `const` return the names of tensors."""

    def __init__(self, name: str, opset: int = 17, seed: int = 1) -> None:
        self.name, self.opset = name, opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def fresh(self, word: str) -> str:
        self._count += 1
        return f"{word}_{self._count}"

    def input(self, name: str, shape: Sequence[int | str | None], kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str) -> str:
        self.outputs.append(onnx.ValueInfoProto(name=name))
        return name

    def op(
        self, kind: str, *inputs: str, outs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        """Add a node; return its result's name, or a list of names where it has several."""
        names = [self.fresh(kind.lower()) for _ in range(outs)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}",
                             domain=domain, **attributes)
        )  # fmt: skip
        return names[0] if outs == 1 else names

    def const(self, array: Any, name: str = "") -> str:
        """Add an initialiser."""
        name = name or self.fresh("const")
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        """Add a random float initialiser whose channels have different magnitudes."""
        data = self.rng.standard_normal(shape) * scale
        if len(shape) > 1:
            data *= self.rng.uniform(0.3, 1.5, (shape[0], *[1] * (len(shape) - 1)))
        return self.const(data.astype(np.float32), self.fresh("w"))

    def conv(self, x: str, out: int, depth: int, kernel: Sequence[int] = (3, 3), *,
             bias: bool = True, **attributes: Any) -> str:  # fmt: skip
        """Add a convolution with random weights of the shape [out, depth, *kernel]."""
        operands = [x, self.weight(out, depth, *kernel)]
        if bias:
            operands.append(self.weight(out, scale=0.5))
        made: str = self.op("Conv", *operands, **attributes)
        return made

    def quantize(self, x: str, scale: Any, zero: Any, **attributes: Any) -> str:
        """Add a QuantizeLinear; without zero point it makes uint8."""
        operands = [x, self.const(np.asarray(scale, np.float32))]
        if zero is not None:
            operands.append(self.const(zero))
        made: str = self.op("QuantizeLinear", *operands, **attributes)
        return made

    def dequantize(self, x: str, scale: Any, zero: Any, **attributes: Any) -> str:
        operands = [x, self.const(np.asarray(scale, np.float32))]
        if zero is not None:
            operands.append(self.const(zero))
        made: str = self.op("DequantizeLinear", *operands, **attributes)
        return made

    def pair(self, x: str, scale: Any, zero: Any, **attributes: Any) -> str:
        """Add a QuantizeLinear and its DequantizeLinear."""
        return self.dequantize(self.quantize(x, scale, zero, **attributes), scale, zero,
                               **attributes)  # fmt: skip

    def model(self, *outputs: str, domains: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the checked model; its tensors' shapes are those that onnx infers."""
        for name in outputs:
            self.output(name)
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, self.initializers
        )
        opsets = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = _IR_VERSIONS.get(self.opset, min(model.ir_version, 11))
        model = onnx.shape_inference.infer_shapes(model, strict_mode=not domains)
        if not domains:
            onnx.checker.check_model(model)
        return model
