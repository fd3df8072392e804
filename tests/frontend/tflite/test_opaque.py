"""What the reader leaves opaque, and why; large constants cost nothing."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import finish, table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from tests.frontend.tflite.helpers import (
    code,
    message,
    only,
    opaques,
    operator,
    relu,
    strided_slice,
    tensor,
)

# Operators that stay opaque ------------------------------------------------------------------


def test_an_operator_that_the_ir_has_not_is_carried_with_its_options() -> None:
    data = relu(
        operators=[operator([0], [1], builtin_options=table("UniqueOptions", idx_out_type=4))],
        codes=[code("UNIQUE", 3)],
    )
    op = only(data)
    assert (op.title, op.version, op.options_type) == ("UNIQUE 'y'", 3, "UniqueOptions")
    assert op.reason == "no operation of the IR for it"
    assert op.options == finish(table("UniqueOptions", idx_out_type=4), None)
    again = only(write(read(data)))
    assert (again.kind, again.version, again.options) == (op.kind, op.version, op.options)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "VarHandleOptions": ("VAR_HANDLE", {"container": "box", "shared_name": "state"}),
    "BucketizeOptions": ("BUCKETIZE", {"boundaries": (0.5, 1.5)}),
    "StablehloSliceOptions": ("STABLEHLO_SLICE", {"start_indices": (1, 2)}),
}


@pytest.mark.parametrize("table_name", OPTIONS)
def test_options_of_every_kind_survive(table_name: str) -> None:
    name, fields = OPTIONS[table_name]
    field = "builtin_options" if table_name in schema.BUILTIN_OPTIONS else "builtin_options_2"
    options: dict[str, Any] = {field: table(table_name, **fields)}
    data = relu(operators=[operator([0], [1], **options)], codes=[code(name)])
    op = only(data)
    assert op.options_type == table_name
    assert op.options == finish(table(table_name, **fields), None)
    again = only(write(read(data)))
    assert (again.options_type, again.options) == (op.options_type, op.options)


def test_a_custom_operator_keeps_its_bytes() -> None:
    raw = np.frombuffer(b"anything at all", np.uint8)
    data = relu(
        operators=[operator([0, -1], [1], custom_options=raw)],
        codes=[code("CUSTOM", 2, custom_code="Mine")],
    )
    op = only(write(read(data)))
    assert (op.title, op.version, op.options_type, op.options) == (
        "Mine 'y'", 2, "CUSTOM", b"anything at all",
    )  # fmt: skip
    assert op.inputs[1] is None


def test_an_operator_of_a_newer_schema() -> None:
    newer = table("OperatorCode", deprecated_builtin_code=127, builtin_code=300, version=1)
    assert only(relu(codes=[newer])).title == "BUILTIN_300 'y'"


def _conv(tensors: Any, inputs: Any = (0, 2), version: int = 1, **options: Any) -> bytes:
    good = {"stride_w": 1, "stride_h": 1, **options}
    return relu(
        tensors=tensors,
        operators=[operator(inputs, [1], builtin_options=table("Conv2DOptions", **good))],
        codes=[code("CONV_2D", version)],
        constants=[np.zeros(36, np.uint8)],
    )


_IMAGES = [
    tensor("x", (1, 8, 8, 4)),
    tensor("y", (1, 8, 8, 1)),
    tensor("w", (1, 3, 3, 4), buffer=1),
]


def _changed(at: int, **changes: Any) -> list[Any]:
    found = [table("Tensor", **t.values) for t in _IMAGES]
    found[at] = table("Tensor", **{**_IMAGES[at].values, **changes})
    return found


_INT4 = schema.TENSOR_TYPES.index("INT4")
_CUSTOM = table("QuantizationParameters", details=table("CustomQuantization", custom=[1]))

REASONS: dict[str, tuple[bytes, str]] = {
    "newer version": (_conv(_IMAGES, version=9), "version is 9, known are 1 to 8"),
    "stride": (_conv(_IMAGES, stride_h=0), "stride_h and w are 0 and 1, must be at least 1"),
    "padding": (_conv(_IMAGES, padding=7), "padding is 7, must be 0 (SAME) or 1 (VALID)"),
    "activation": (
        _conv(_IMAGES, fused_activation_function=9),
        "fused activation is 9, must be below 6",
    ),
    "too few inputs": (_conv(_IMAGES, inputs=[0]), "has 1 inputs, must have 2 to 3"),
    "absent input": (_conv(_IMAGES, inputs=[0, -1]), "input 1 is absent, must be there"),
    "rank": (
        _conv(_changed(0, shape=(8, 8, 4))),
        "input 0 has shape [8, 8, 4], must have rank 4",
    ),
    "shapes": (
        _conv(_changed(1, shape=(1, 8, 8, 2))),
        "result 'y' is u8[1, 8, 8, 2], must be u8[1, 8, 8, 1]",
    ),
    "no elements": (_conv(_changed(0, shape=(0, 8, 8, 4))), "tensor 'x' has no elements"),
    "int4": (
        _conv(_changed(2, type=_INT4, shape=(2, 3, 3, 4))),
        "tensor 'w' has type INT4",
    ),
    "sparse": (_conv(_changed(2, sparsity=table("SparsityParameters"))), "tensor 'w' is sparse"),
    "custom quantisation": (
        _conv(_changed(2, quantization=_CUSTOM)),
        "tensor 'w' has CustomQuantization quantisation",
    ),
    "state": (
        _conv(_changed(2, is_variable=True, buffer=0)),
        "keeps state in tensor 'w'",
    ),
    "string": (
        relu(tensors=[tensor("x", kind="STRING"), tensor("y")]),
        "tensor 'x' has type STRING",
    ),
    "other options": (
        relu(
            operators=[operator([0], [1], builtin_options=table("AddOptions"))],
            codes=[code("SOFTMAX")],
        ),
        "options are AddOptions, must be SoftmaxOptions",
    ),
    "no options": (relu(codes=[code("SOFTMAX")]), "options are absent, must be SoftmaxOptions"),
    "computed shape": (
        relu(
            tensors=[tensor("x"), tensor("y"), tensor("s", (2,), "INT32")],
            inputs=[0, 2],
            operators=[operator([0, 2], [1])],
            codes=[code("RESHAPE")],
        ),
        "shape is computed, must be constant",
    ),
    "other shape": (
        relu(
            tensors=[tensor("x"), tensor("y"), tensor("s", (2,), "INT32", buffer=1)],
            operators=[operator([0, 2], [1])],
            codes=[code("RESHAPE")],
            constants=[np.array([2, 2], np.int32)],
        ),
        "shape is [2, 2], must be the output's, [1, 4]",
    ),
    "axis": (
        relu(
            tensors=[tensor("x"), tensor("y"), tensor("a", (), "INT32", buffer=1)],
            operators=[operator([0, 2], [1], builtin_options=table("ReducerOptions"))],
            codes=[code("MEAN")],
            constants=[np.array([2], np.int32)],
        ),
        "axis is 2, must be within -2 to 1",
    ),
    "output type": (
        relu(
            tensors=[tensor("x"), tensor("y", (1,), "INT32"), tensor("a", (), "INT32", buffer=1)],
            operators=[
                operator([0, 2], [1], builtin_options=table("ArgMaxOptions", output_type=4))
            ],
            codes=[code("ARG_MAX")],
            constants=[np.array([1], np.int32)],
        ),
        "output_type is 4, must be 2, the output's",
    ),
    "detection options": (
        relu(
            tensors=[tensor(n, (1, 1, 4), "FLOAT32") for n in ("a", "b", "c", "d", "e", "f", "g")],
            inputs=[0, 1, 2],
            outputs=[3, 4, 5, 6],
            operators=[operator([0, 1, 2], [3, 4, 5, 6], custom_options=[1, 2])],
            codes=[code("CUSTOM", custom_code=schema.DETECTION)],
        ),
        "custom options: has 2 bytes, must have at least 3",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_why_an_operator_stays_opaque(name: str) -> None:
    data, reason = REASONS[name]
    graph = read(data)
    assert [why for _, why in opaques(graph)] == [reason]
    assert list(graph.problems()) == []


def test_unpacking_a_huge_axis_allocates_nothing() -> None:
    data = relu(
        tensors=[tensor("x", (1 << 30, 1)), tensor("y", (1,))],
        operators=[operator([0], [1], builtin_options=table("UnpackOptions", num=1))],
        codes=[code("UNPACK")],
    )
    assert opaques(read(data)) == [
        ("UNPACK 'y'", f"num is 1, must be the axis size {1 << 30}"),
    ]


def test_slicing_a_huge_axis_takes_no_time() -> None:
    start = time.process_time()
    numbers = ((0, 1), (1 << 30, 2), (1, 1))
    (value,) = read(strided_slice((1 << 30, 2), numbers, (1 << 30, 1))).outputs
    assert value.shape == (1 << 30, 1)
    assert time.process_time() - start < 1


def test_a_packed_constant_keeps_its_bytes() -> None:
    graph = read(_conv(_changed(2, type=_INT4, shape=(2, 3, 3, 4))))
    (weights,) = graph.constants
    assert (weights.type.dtype.value, weights.shape) == ("other", (36,))


def test_control_flow_is_opaque_and_other_subgraphs_are_left_alone() -> None:
    data = relu(
        operators=[
            operator(
                [0],
                [1],
                builtin_options=table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2),
            )
        ],
        codes=[code("WHILE")],
        extra=[table("SubGraph"), table("SubGraph")],
    )
    assert opaques(read(data)) == [("WHILE 'y'", "no operation of the IR for it")]


def test_an_operator_without_results() -> None:
    data = relu(
        operators=[
            operator([0], [], 1, builtin_options=table("BucketizeOptions", boundaries=(1.0,))),
            operator([0], [1]),
        ],
        codes=[code("RELU"), code("BUCKETIZE")],
    )
    assert [type(op).__name__ for op in read(data).ops] == ["Opaque", "Relu"]


def test_a_subgraph_that_is_not_there() -> None:
    once = operator([], [], 1, builtin_options=table("CallOnceOptions", init_subgraph_index=1))
    data = relu(operators=[once, operator([0], [1])], codes=[code("RELU"), code("CALL_ONCE")])
    assert message(data) == (
        "bad.tflite: subgraphs[0]/operators[0]: CALL_ONCE calls subgraph 1, must be below 1, the"
        " number of subgraphs"
    )
