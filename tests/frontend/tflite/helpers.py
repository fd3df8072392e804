"""Example graphs, as a TFLite file can say them.

Files made table by table: what no graph can say, and what no file may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source
from teflon.frontend.tflite.access import Table as FileTable
from teflon.frontend.tflite.emit import Table, finish, table
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, Graph, Value, ops
from teflon.ir.builder import Builder
from tests.ir import examples
from tests.ir.examples import image, random

Example = Callable[[], Graph]


def one(build: Callable[[Builder, Value], Any], dtype: str = "u8") -> Example:
    """A graph of one operation on one image."""

    def make() -> Graph:
        b = Builder("one")
        made = build(b, image(b, dtype))
        b.output(*(made if isinstance(made, tuple) else (made,)))
        return b.build()

    return make


def _chain() -> Graph:
    """Several operations, an output that is read again, names that users see."""
    b = Builder("chain")
    x = image(b)
    y = b.conv2d(x, random((8, 3, 3, 4)), random((8,), "i32"), activation="relu6", name="conv")
    z = b.max_pool2d(y, 2, stride=2, name="pool")
    b.output(b.softmax(b.fully_connected(z, random((5, 9 * 8)), name="fc")), name="probabilities")
    b.output(y, name="features")
    return b.build()


EXAMPLES: dict[str, Example] = {
    **{name: example.graph for name, example in examples.EXAMPLES.items()},
    "logistic_i16": one(lambda b, x: b.logistic(x, scale=1 / 32768, zero_point=0), "i16"),
    "chain": _chain,
}
"""A graph by its name: those of every operation, one that we do not compute, a small network."""


def code(name: str, version: int = 1, **more: Any) -> Table:
    number = schema.BUILTIN_OPERATORS.index(name)
    return table("OperatorCode", deprecated_builtin_code=min(number, 127), builtin_code=number,
                 version=version, **more)  # fmt: skip


def quantization(scale: Any = (0.5,), zero_point: Any = (0,), **more: Any) -> Table:
    return table("QuantizationParameters", scale=scale, zero_point=zero_point, **more)


def tensor(name: str, shape: Any = (1, 4), kind: str = "UINT8", **more: Any) -> Table:
    if kind in ("UINT8", "INT8"):
        more.setdefault("quantization", quantization())
    more.setdefault("type", schema.TENSOR_TYPES.index(kind))
    return table("Tensor", name=name, shape=shape, **more)


def operator(inputs: Any, outputs: Any, opcode_index: int = 0, **more: Any) -> Table:
    return table("Operator", inputs=inputs, outputs=outputs, opcode_index=opcode_index, **more)


def buffer(data: Array) -> Table:
    return table("Buffer", data=np.ascontiguousarray(data).reshape(-1).view(np.uint8))


def model(
    tensors: Any = (),
    operators: Any = (),
    *,
    codes: Any = (),
    inputs: Any = (0,),
    outputs: Any = (1,),
    constants: Any = (),
    subgraph: Any = None,
    extra: Any = (),
    **more: Any,
) -> bytes:
    """Return a file of one subgraph, and those `extra`; `constants` become buffers 1, 2, ..."""
    one = {
        "tensors": tensors, "inputs": inputs, "outputs": outputs, "operators": operators,
        "name": "main",
    }  # fmt: skip
    root: dict[str, Any] = {
        "version": 3,
        "operator_codes": codes,
        "subgraphs": [table("SubGraph", **{**one, **(subgraph or {})}), *extra],
        "buffers": [table("Buffer"), *[buffer(data) for data in constants]],
    }
    return finish(table("Model", **{**root, **more}))


def relu(**changes: Any) -> bytes:
    """A good file: RELU from `x` to `y`; anything in it can be replaced."""
    good: dict[str, Any] = {
        "tensors": [tensor("x"), tensor("y")],
        "operators": [operator([0], [1])],
        "codes": [code("RELU")],
    }
    return model(**{**good, **changes})


def root(data: bytes) -> FileTable:
    """Return the file's root as the reader sees it."""
    source = Source(data, "test")
    return FileTable(source, source.u32(0, "root"), "Model", Place(None, ""))


def operator_codes(data: bytes) -> list[tuple[str, int]]:
    """Return name and version of every operator code of a file."""
    found = []
    for row in root(data).children("operator_codes"):
        name = schema.BUILTIN_OPERATORS[row.get("builtin_code")]
        found.append((row.text("custom_code") or name, row.get("version")))
    return found


def strided_slice(shape: Any, numbers: Any, result: Any, **options: Any) -> bytes:
    """A file of one STRIDED_SLICE; numbers: begin, end, strides."""
    constants = [np.array(row, np.int32) for row in numbers]
    return relu(
        tensors=[
            tensor("x", shape),
            tensor("y", result),
            *[tensor(f"c{i}", (len(c),), "INT32", buffer=i + 1) for i, c in enumerate(constants)],
        ],
        operators=[
            operator([0, 2, 3, 4], [1], builtin_options=table("StridedSliceOptions", **options))
        ],
        codes=[code("STRIDED_SLICE", 4)],
        constants=constants,
    )


def opaques(graph: Graph) -> list[tuple[str, str]]:
    """The operations that were not read, with the reason."""
    return [(op.title, op.reason) for op in graph.ops if isinstance(op, ops.Opaque)]


def only(data: bytes) -> Any:
    """The only operation of a file."""
    (op,) = read(data, "test").ops
    return op


def message(data: bytes) -> str:
    """What the reader says to a bad file."""
    with pytest.raises(ModelError) as caught:
        read(data, "bad.tflite")
    return str(caught.value)
