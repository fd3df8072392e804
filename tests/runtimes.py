"""The driver `tflite` as tests use it, and small files for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.ir import DType, Graph, TensorType, Value, ops
from teflon.pipe import Context, Device, Driver
from teflon.plugins import discover
from tests.frontend.tflite.helpers import (
    code,
    model,
    operator,
    quantization,
    relu,
    tensor,
)


def driver() -> Driver:
    return discover().drivers["tflite"]


def device(**options: str) -> Device:
    return driver().device("tflite", options)


def context(**options: str) -> Context:
    return driver().simulate("tflite", options)


def run(graph: Graph, *inputs: Any, **options: str) -> list[Any]:
    program = device(**options).compile(graph)
    with context(**options) as opened:
        return opened.invoke(opened.load(program), [np.asarray(i) for i in inputs])


def cumsum() -> Graph:
    return read(
        relu(
            tensors=[tensor("x", (2, 4), "FLOAT32"), tensor("y", (2, 4), "FLOAT32"),
                     tensor("axis", (), "INT32", buffer=1)],
            operators=[operator([0, 2], [1], builtin_options=table("CumsumOptions"))],
            codes=[code("CUMSUM")],
            constants=[np.array(1, np.int32)],
        ),
        "cumsum",
    )  # fmt: skip


def opaque(data: bytes) -> Graph:
    """Read a file and take all of its operators as unknown."""
    graph = read(data, "test")
    made = [
        ops.Opaque(inputs=op.operands, outputs=op.results, kind=op.kind_name, index=op.index)
        for op in graph.ops
    ]
    return graph.with_ops(made)


def pair(kind: str, *scales: Any, dtype: str = "INT8") -> Graph:
    """An operation of two tensors; scale None is no scale at all."""
    names = zip(("a", "b", "y"), scales, strict=True)
    none = table("QuantizationParameters")
    tensors = [
        tensor(n, (1, 4), dtype, quantization=none if s is None else quantization((s,)))
        for n, s in names
    ]
    return opaque(
        model(
            tensors=tensors, operators=[operator([0, 1], [2])], codes=[code(kind, 2)],
            inputs=(0, 1), outputs=(2,),
        )
    )  # fmt: skip


def lstm(*shape: int) -> Graph:
    """An LSTM of one unit, whose weights are ones, over an input of this shape."""
    sizes = [shape, *[(1, shape[-1])] * 4, *[(1, 1)] * 4, *[(1,)] * 4, *[(shape[0], 1)] * 2]
    tensors = [tensor(f"t{n}", size, "FLOAT32", buffer=n if 1 <= n <= 12 else 0)
               for n, size in enumerate(sizes)]  # fmt: skip
    tensors[13:] = [table("Tensor", **{**t.values, "is_variable": True}) for t in tensors[13:]]
    out = tensor("y", (*shape[:-1], 1), "FLOAT32")
    order = [*range(9), -1, -1, -1, *range(9, 13), -1, -1, 13, 14]
    options = table("UnidirectionalSequenceLSTMOptions", fused_activation_function=4)
    return read(
        model(
            tensors=[*tensors, out],
            operators=[operator(order, [15], builtin_options=options)],
            codes=[code("UNIDIRECTIONAL_SEQUENCE_LSTM")], inputs=(0,), outputs=(15,),
            constants=[np.ones(size, np.float32) for size in sizes[1:13]],
        ),
        "lstm",
    )  # fmt: skip


def where(dynamic: bool) -> Graph:
    graph = read(
        relu(
            tensors=[tensor("x", (4,), "BOOL"), tensor("y", (0, 1), "INT64")],
            codes=[code("WHERE")],
        ),
        "where",
    )
    (op,) = graph.ops
    kind = TensorType(DType.INT64, (4, 1), None, dynamic)
    y = Value("y", kind, None, 1)
    return Graph("g", graph.inputs, (y,), (op.rewired({op.results[0]: y}),), origin=graph.origin)
