"""Files with more than one subgraph, with state, with shapes that are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from teflon.frontend.tflite.emit import table
from tests.frontend.tflite.helpers import code, model, operator, relu, tensor

F: dict[str, Any] = {"kind": "FLOAT32"}

# Composites: operators on tensors of four float32 ----------------------------------------------

NAMES = ("STABLEHLO_COMPOSITE", "RELU", "ADD", "ATAN2", "WHILE")
COMPOSITE, RELU, ADD, ATAN2, WHILE = range(len(NAMES))

NO_ATTRIBUTES: bytes = flexbuffers.Dumps({})


def f(name: str, **more: Any) -> Any:
    return tensor(name, (1, 4), "FLOAT32", **more)


def composite(inputs: list[int], outputs: list[int], subgraph: int) -> Any:
    options = table(
        "StableHLOCompositeOptions",
        name="mine",
        decomposition_subgraph_index=subgraph,
        composite_attributes=np.frombuffer(NO_ATTRIBUTES, np.uint8),
    )
    return operator(inputs, outputs, COMPOSITE, builtin_options_2=options)


def add(a: int, b: int, to: int) -> Any:
    return operator([a, b], [to], ADD, builtin_options=table("AddOptions"))


def subgraph(tensors: int, inputs: list[int], outputs: list[int], *operators: Any) -> Any:
    return table(
        "SubGraph", tensors=[f(f"inner{n}") for n in range(tensors)], inputs=inputs,
        outputs=outputs, operators=operators,
    )  # fmt: skip


def file(tensors: int, outputs: list[int], operators: list[Any], *extra: Any) -> bytes:
    return model(
        [f(f"t{n}") for n in range(tensors)],
        operators,
        codes=[code(name) for name in NAMES],
        inputs=[0, 1],
        outputs=outputs,
        extra=extra,
    )


SUM = subgraph(4, [0, 1], [3], add(0, 1, 2), operator([2], [3], RELU))
ANGLE = subgraph(4, [0, 1], [3], operator([0, 1], [2], ATAN2), operator([2], [3], RELU))


def twice(number: int) -> Any:
    """Return a subgraph that is two of another."""
    ends = composite([0, 1], [2], number), composite([2, 1], [3], number)
    return subgraph(4, [0, 1], [3], *ends)


# State -----------------------------------------------------------------------------------------


def in_body(number: int) -> Any:
    return operator([], [number], 1, builtin_options=table("VarHandleOptions", shared_name="v"))


def loop_with_variable(*, checked: bool = False, assigns: bool = True) -> bytes:
    """WHILE (x < 3) x += v, v += 1, with the variable in the body; v stays 1 unless it `assigns`.

    `checked`: GATHER of y by a further input follows, which fails unless that is 0.
    """
    tensors = [tensor("x", (), "FLOAT32"), tensor("y", (), "FLOAT32")]
    main, more = [*tensors], list[Any]()
    if checked:
        main += [
            tensor("row", (1,), "INT32"),
            tensor("y1", (1,), "FLOAT32"),
            tensor("shape", (1,), "INT32", buffer=3),
            tensor("z", (1,), "FLOAT32"),
        ]
        more = [
            operator([1, 4], [3], 7),
            operator([3, 2], [5], 8, builtin_options=table("GatherOptions")),
        ]
    body = [
        *tensors, tensor("h", (), "RESOURCE"), tensor("r", (), "FLOAT32"),
        tensor("s", (), "FLOAT32"), tensor("one", (), "FLOAT32", buffer=1),
    ]  # fmt: skip
    cond = [tensor("x", (), "FLOAT32"), tensor("c", (), "BOOL"),
            tensor("limit", (), "FLOAT32", buffer=2)]  # fmt: skip
    names = ("WHILE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "ADD", "LESS", "CALL_ONCE",
             "RESHAPE", "GATHER")  # fmt: skip
    sum_ = {"builtin_options": table("AddOptions")}
    loop = table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)
    once = table("CallOnceOptions", init_subgraph_index=3)
    return model(
        main,
        [operator([], [], 6, builtin_options=once),
         operator([0], [1], 0, builtin_options=loop), *more],
        codes=[code(n) for n in names],
        inputs=[0, 2] if checked else [0],
        outputs=[5] if checked else [1],
        constants=[np.ones((), np.float32), np.full((), 3, np.float32), np.ones(1, np.int32)],
        extra=[
            table("SubGraph", tensors=cond, inputs=[0], outputs=[1],
                  operators=[operator([0, 2], [1], 5, builtin_options=table("LessOptions"))]),
            table("SubGraph", tensors=body, inputs=[0], outputs=[1], operators=[
                in_body(2), operator([2], [3], 2), operator([3, 5], [4], 4, **sum_),
                *([operator([2, 4], [], 3)] if assigns else []),
                operator([0, 4], [1], 4, **sum_),
            ]),
            table("SubGraph", tensors=[tensor("h", (), "RESOURCE"),
                                       tensor("one", (), "FLOAT32", buffer=1)],
                  inputs=[], outputs=[],
                  operators=[in_body(0), operator([0, 1], [], 3)]),
        ],
    )  # fmt: skip


def svdf(*, shared_state: bool) -> bytes:
    """Two float SVDF after each other, each of 2 units, rank 1 and memory of 3 frames."""
    rng = np.random.default_rng(3)
    f = {"kind": "FLOAT32"}
    tensors = [
        tensor("x", (1, 2), **f), tensor("y", (1, 2), **f), tensor("w", (2, 2), buffer=1, **f),
        tensor("t", (2, 3), buffer=2, **f), tensor("state", (1, 6), is_variable=True, **f),
        tensor("between", (1, 2), **f), tensor("state2", (1, 6), is_variable=True, **f),
    ]  # fmt: skip
    options = table("SVDFOptions", rank=1)
    second = 4 if shared_state else 6
    return model(
        tensors,
        [operator([0, 2, 3, -1, 4], [5], builtin_options=options),
         operator([5, 2, 3, -1, second], [1], builtin_options=options)],
        codes=[code("SVDF")],
        constants=[rng.standard_normal(s).astype(np.float32) for s in ((2, 2), (2, 3))],
    )  # fmt: skip


_SVDF = [np.random.default_rng(3).standard_normal(s).astype(np.float32) for s in ((2, 2), (2, 3))]
KEEPING = ("IF", "WHILE", "SVDF", "RELU", "LESS", "ADD", "MUL", "GATHER",
           "STABLEHLO_COMPOSITE", "TANH")  # fmt: skip
"""Operators of the files with variable tensors in subgraphs."""


def pair(name: str, **more: Any) -> Any:
    return tensor(name, (1, 2), "FLOAT32", **more)


def calling(operators: Any, tensors: Any, inputs: Any, outputs: Any, extra: Any) -> bytes:
    """Return a file whose operators call the subgraphs `extra`."""
    codes = [code(name) for name in KEEPING]
    ends = [np.full((), n, np.float32) for n in (3, 1)]
    return model(
        tensors, operators, codes=codes, inputs=inputs, outputs=outputs, extra=extra,
        constants=[*_SVDF, *ends],
    )  # fmt: skip


def remembering() -> Any:
    """Return a subgraph of one SVDF with memory of 3 frames, from a pair to a pair."""
    f = {"kind": "FLOAT32"}
    tensors = [
        pair("x"), pair("y"), tensor("w", (2, 2), buffer=1, **f),
        tensor("t", (2, 3), buffer=2, **f), tensor("state", (1, 6), is_variable=True, **f),
    ]  # fmt: skip
    options = table("SVDFOptions", rank=1)
    one = operator([0, 2, 3, -1, 4], [1], KEEPING.index("SVDF"), builtin_options=options)
    return table("SubGraph", tensors=tensors, inputs=[0], outputs=[1], operators=[one])


def _plain(kind: str) -> Any:
    one = operator([0], [1], KEEPING.index(kind))
    return table(
        "SubGraph", tensors=[pair("x"), pair("y")], inputs=[0], outputs=[1], operators=[one]
    )


def branch_with_state(*, checked: bool = False) -> bytes:
    """TANH, IF with an SVDF that has a variable tensor in one branch, TANH.

    `checked`: GATHER of rows by a further input follows in both, which fails unless that is 0.
    """
    tanh = KEEPING.index("TANH")
    tensors = [tensor("c", (), "BOOL"), *(pair(n) for n in ("x", "a", "b", "y"))]
    branches = [remembering(), _plain("RELU")]
    more = []
    if checked:
        tensors.append(tensor("row", (1,), "INT32"))
        branches, more = [_gathering(b) for b in branches], [5]
    options = table("IfOptions", then_subgraph_index=1, else_subgraph_index=2)
    fork = operator([0, 2, *more], [3], KEEPING.index("IF"), builtin_options=options)
    operators = [operator([1], [2], tanh), fork, operator([3], [4], tanh)]
    return calling(operators, tensors, [0, 1, *more], [4], branches)


def _gathering(branch: Any) -> Any:
    """Return a subgraph with GATHER behind it."""
    tensors = [*branch.values["tensors"], tensor("row", (1,), "INT32"), pair("g")]
    row, result = len(tensors) - 2, len(tensors) - 1
    options = table("GatherOptions")
    gather = operator([1, row], [result], KEEPING.index("GATHER"), builtin_options=options)
    operators = [*branch.values["operators"], gather]
    return table(
        "SubGraph", tensors=tensors, inputs=[0, row], outputs=[result], operators=operators
    )


def composites_with_state(count: int) -> bytes:
    """Composites behind each other that are the same SVDF with a variable tensor."""
    options = table(
        "StableHLOCompositeOptions", name="mine", decomposition_subgraph_index=1,
        composite_attributes=np.frombuffer(NO_ATTRIBUTES, np.uint8),
    )  # fmt: skip
    kind = KEEPING.index("STABLEHLO_COMPOSITE")
    operators = [operator([n], [n + 1], kind, builtin_options_2=options) for n in range(count)]
    tensors = [pair(f"t{n}") for n in range(count + 1)]
    return calling(operators, tensors, [0], [count], [remembering()])


def loop_with_state() -> bytes:
    """WHILE (n < 3) n += 1, x = SVDF(x), the SVDF with its state in the body."""
    f = {"kind": "FLOAT32"}
    n = ("n", ()), ("m", ())
    add = {"builtin_options": table("AddOptions")}
    cond = table(
        "SubGraph", inputs=[0, 1], outputs=[2],
        tensors=[tensor("n", (), **f), pair("x"), tensor("c", (), "BOOL"),
                 tensor("limit", (), buffer=3, **f)],
        operators=[operator([0, 3], [2], KEEPING.index("LESS"),
                            builtin_options=table("LessOptions"))],
    )  # fmt: skip
    inner = remembering().values
    one, number, more = (len(inner["tensors"]) + k for k in range(3))
    body = table(
        "SubGraph", inputs=[number, 0], outputs=[more, 1],
        tensors=[*inner["tensors"], tensor("one", (), buffer=4, **f),
                 *(tensor(*about, **f) for about in n)],
        operators=[*inner["operators"],
                   operator([number, one], [more], KEEPING.index("ADD"), **add)],
    )  # fmt: skip
    options = table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)
    return calling(
        [operator([0, 1], [2, 3], KEEPING.index("WHILE"), builtin_options=options)],
        [tensor("n", (), **f), pair("x"), tensor("m", (), **f), pair("y")],
        [0, 1], [2, 3], [cond, body],
    )  # fmt: skip


# Shapes ----------------------------------------------------------------------------------------


def chain() -> bytes:
    """RESHAPE to [rows of x, -1], the rows found by SHAPE, STRIDED_SLICE and PACK."""
    i32 = {"kind": "INT32"}
    slices = {"shrink_axis_mask": 1}
    return model(
        [
            tensor("x", (2, 3, 4), **F), tensor("y", (2, 12), **F),
            tensor("shape", (3,), **i32), tensor("rows", (), **i32), tensor("to", (2,), **i32),
            tensor("zero", (1,), buffer=1, **i32), tensor("one", (1,), buffer=2, **i32),
            tensor("rest", (), buffer=3, **i32),
        ],
        [
            operator([0], [2], 0, builtin_options=table("ShapeOptions", out_type=2)),
            operator([2, 5, 6, 6], [3], 1, builtin_options=table("StridedSliceOptions", **slices)),
            operator([3, 7], [4], 2, builtin_options=table("PackOptions", values_count=2)),
            operator([0, 4], [1], 3),
        ],
        codes=[code(n) for n in ("SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE")],
        constants=[np.array(c, np.int32) for c in ([0], [1], -1)],
    )  # fmt: skip


def where() -> bytes:
    """WHERE of a bool input, then CAST and NEG of what it found."""
    return relu(
        tensors=[tensor("x", (6,), "BOOL"), tensor("y", (1, 1), **F), tensor("w", (1, 1), "INT64"),
                 tensor("n", (1, 1), **F)],
        operators=[operator([0], [2], 1), operator([2], [3], 2), operator([3], [1], 0)],
        codes=[code("NEG"), code("WHERE"), code("CAST")],
    )  # fmt: skip
