"""Parts of files, cut and run; files made by hand that call, compose and look up."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.frontend.tflite.emit import Table, table
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, Graph
from teflon.ir.graph import Cut
from tests.frontend.tflite.helpers import (
    buffer,
    code,
    model,
    operator,
    tensor,
)
from tests.oracle import Oracle


def run(cut: Cut, inputs: list[Array]) -> list[Array]:
    oracle = Oracle(cut.content)
    wanted = {d["index"]: d for d in oracle.inputs}
    given = dict(zip(cut.inputs, inputs, strict=True))
    oracle.run([given[number].reshape(d["shape"]) for number, d in wanted.items()])
    return [oracle.tensor(int(number)) for number in cut.outputs]


def cut(graph: Graph) -> Cut:
    assert graph.origin is not None
    return graph.origin.cut(graph)


def part(data: bytes, *numbers: int) -> Cut:
    """Cut the operations with these numbers."""
    graph = read(data, "test")
    return cut(graph.subgraph([op for op in graph.ops if op.index in numbers]))


def branch(kind: int, number: int = 1, **options: Any) -> Table:
    """A subgraph of one operator from tensor 0 to tensor 1."""
    return table(
        "SubGraph",
        tensors=[tensor("in", (1, 4), "FLOAT32"), tensor("out", (1, 4), "FLOAT32")],
        inputs=[0], outputs=[1],
        operators=[operator([0], [1], kind, **options)],
        name=f"branch{number}",
    )  # fmt: skip


def conditional(then: int = 2, other: int = 3, extra: Any = ()) -> bytes:
    """IF over four subgraphs: main, one that nobody calls, RELU, a subgraph that calls RELU."""
    main = table(
        "SubGraph",
        tensors=[
            tensor("c", (1,), "BOOL"), tensor("x", (1, 4), "FLOAT32"),
            tensor("y", (1, 4), "FLOAT32"), tensor("z", (1, 4), "FLOAT32"),
        ],
        inputs=[0, 1], outputs=[3],
        operators=[
            operator([0, 1], [2], 0, builtin_options=table(
                "IfOptions", then_subgraph_index=then, else_subgraph_index=other)),
            operator([2], [3], 2),
        ],
    )  # fmt: skip
    return model(
        codes=[code("IF"), code("RELU"), code("ABS"), code("NEG")],
        subgraphs=[main, branch(2), branch(1), branch(3), *extra],
    )


def composite(number: int = 1) -> bytes:
    """RELU, a composite of NEG and ABS, RELU."""
    inner = table(
        "SubGraph",
        tensors=[tensor(n, (1, 4), "FLOAT32") for n in ("p", "q", "r")],
        inputs=[0], outputs=[2],
        operators=[operator([0], [1], 2), operator([1], [2], 3)],
    )  # fmt: skip
    options = table(
        "StableHLOCompositeOptions", name="odd.one", decomposition_subgraph_index=number
    )
    main = table(
        "SubGraph",
        tensors=[tensor(n, (1, 4), "FLOAT32") for n in ("x", "a", "b", "y")],
        inputs=[0], outputs=[3],
        operators=[
            operator([0], [1], 0),
            operator([1], [2], 1, builtin_options_2=options),
            operator([2], [3], 0),
        ],
    )  # fmt: skip
    codes = [code("RELU"), code("STABLEHLO_COMPOSITE"), code("NEG"), code("ABS")]
    return model(codes=codes, subgraphs=[main, inner])


def texts(*words: bytes) -> Array:
    """Return strings as TFLite has them in a buffer: count, offsets, bytes."""
    starts = np.cumsum([4 * (len(words) + 2), *map(len, words)])
    head = np.array([len(words), *starts], "<i4").tobytes()
    return np.frombuffer(head + b"".join(words), np.uint8)


def table_model() -> bytes:
    """A hash table that a CALL_ONCE fills, and two operators that look into it."""
    handle = table("HashtableOptions", table_id=7, key_dtype=4, value_dtype=5)
    resource = tensor("h", (1,), "RESOURCE")
    init = table(
        "SubGraph",
        tensors=[
            tensor("h2", (1,), "RESOURCE"), tensor("keys", (2,), "INT64", buffer=1),
            tensor("values", (2,), "STRING", buffer=2),
        ],
        inputs=[], outputs=[],
        operators=[
            operator([], [0], 1, builtin_options=handle),
            operator([0, 1, 2], [], 3, builtin_options=table("HashtableImportOptions")),
        ],
    )  # fmt: skip
    main = table(
        "SubGraph",
        tensors=[
            tensor("x", (2,), "INT64"), resource, tensor("none", (1,), "STRING", buffer=3),
            tensor("y", (2,), "STRING"), tensor("z", (2,), "STRING"),
        ],
        inputs=[0], outputs=[3, 4],
        operators=[
            operator([], [], 0, builtin_options=table("CallOnceOptions", init_subgraph_index=1)),
            operator([], [1], 1, builtin_options=handle),
            operator([1, 0, 2], [3], 2, builtin_options=table("HashtableFindOptions")),
            operator([1, 0, 2], [4], 2, builtin_options=table("HashtableFindOptions")),
        ],
    )  # fmt: skip
    return model(
        codes=[code(n) for n in ("CALL_ONCE", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT")],
        subgraphs=[main, init],
        buffers=[
            table("Buffer"), buffer(np.array([5, 6], np.int64)), buffer(texts(b"five", b"six")),
            buffer(texts(b"none")),
        ],
    )  # fmt: skip
