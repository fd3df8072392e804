"""Forms of operators that files have and our writer never writes: computed as TFLite does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, DType
from teflon.ir.interpreter import run
from tests.counts import compare
from tests.frontend.tflite.helpers import (
    code,
    model,
    opaques,
    operator,
    quantization,
    relu,
    tensor,
)
from tests.ir.examples import random
from tests.oracle import Oracle, needs_oracle

NAMES = {dtype.numpy: name for name, dtype in schema.DTYPES.items()}


def file(
    name: str, version: int, inputs: Sequence[Array], output: Array, **options: Any
) -> tuple[bytes, Array]:
    """Return a file of one operator on one input, behind it constants; and that input.

    `output` has the result's type and shape; `options` may hold `builtin_options`.
    """
    tensors = [
        table(
            "Tensor", name=f"t{place}", shape=array.shape, buffer=place % len(inputs),
            type=schema.TENSOR_TYPES.index(NAMES[array.dtype]),
        )
        for place, array in enumerate([*inputs, output])
    ]  # fmt: skip
    data = model(
        tensors, [operator(range(len(inputs)), [len(inputs)], **options)],
        codes=[code(name, version)], outputs=[len(inputs)], constants=inputs[1:],
    )  # fmt: skip
    return data, inputs[0]


X = random((2, 3, 4), "f32")
EDGES = np.array(
    [sign * (2.0**n + d) for n in (0, 7, 8, 15, 16, 31, 32, 63, 70) for d in (-1, -0.5, 0, 0.5, 1)
     for sign in (-1, 1)] + [0.0, -0.0, 1e-40, 1e300, 2049, 65519.999, np.inf, -np.inf, np.nan]
)  # fmt: skip
"""Where element types end, and what lies beside it."""


def numbers(dtype: DType) -> Array:
    """Return numbers of an element type, its smallest and largest among them."""
    if dtype.numpy.kind in "fc":
        with np.errstate(over="ignore"):
            return EDGES.astype(dtype.numpy)
    low, high = (0, 1) if dtype is DType.BOOL else dtype.range
    rng = np.random.default_rng(2)
    some = rng.integers(low, high, 60, "u1" if dtype is DType.BOOL else dtype.numpy, endpoint=True)
    edges = [number for number in (0, 1, -1, low, high, high // 2) if low <= number <= high]
    return np.concatenate([some, np.array(edges, some.dtype)]).astype(dtype.numpy)


CAST = [dtype for dtype in DType if dtype not in (DType.UINT64, DType.OTHER)]

FORMS: dict[str, tuple[bytes, Array]] = {
    "mean of the last axis": file(
        "MEAN", 1, [X, np.array([-1], np.int32)], X[..., 0],
        builtin_options=table("ReducerOptions"),
    ),
    "arg_max of bool": file(
        "ARG_MAX", 2, [X > 0, np.array(2, np.int32)], np.empty((2, 3), np.int32),
        builtin_options=table("ArgMaxOptions", output_type=schema.TYPE_CODES[DType.INT32]),
    ),
    "arg_max of an axis from the end, of 64 bits": file(
        "ARG_MAX", 1, [X, np.array([-2], np.int64)], np.empty((2, 4), np.int64),
        builtin_options=table("ArgMaxOptions", output_type=schema.TYPE_CODES[DType.INT64]),
    ),
    "arg_max to a scalar": file(
        "ARG_MAX", 1, [X[0, 0], np.array([0], np.int32)], np.empty((), np.int32),
        builtin_options=table("ArgMaxOptions", output_type=schema.TYPE_CODES[DType.INT32]),
    ),
    "gather without options": file(
        "GATHER", 1, [X, np.array([1, 0, 1], np.int32)], np.empty((3, 3, 4), np.float32)
    ),
    "gather with numbers from the end": file(
        "GATHER", 5, [X, np.array([[0, 2, 1], [1, 1, 1]], np.int64)],
        np.empty((2, 3, 3), np.float32),
        builtin_options=table("GatherOptions", axis=-1, batch_dims=-1),
    ),
    "dequantize of float16": file("DEQUANTIZE", 3, [X.astype(np.float16)], X),
    "sum of axes from the end, of 64 bits": file(
        "SUM", 1, [random((2, 3, 4), "i32").astype("i8"), np.array([-1, 0], np.int32)],
        np.empty((3,), np.int64), builtin_options=table("ReducerOptions"),
    ),
    "reduce_max of an axis from the end": file(
        "REDUCE_MAX", 1, [X, np.array([-2], np.int32)], X[:, :1],
        builtin_options=table("ReducerOptions", keep_dims=True),
    ),
    "expand_dims before the end, the axis in a list": file(
        "EXPAND_DIMS", 1, [X, np.array([-1], np.int32)], X[..., None],
        builtin_options=table("ExpandDimsOptions"),
    ),
    "expand_dims by 64 bits": file(
        "EXPAND_DIMS", 1, [X, np.array(0, np.int64)], X[None],
        builtin_options=table("ExpandDimsOptions"),
    ),
    "split_v of the rest, along an axis from the end": file(
        "SPLIT_V", 1, [X, np.array([-1], np.int32), np.array([-2], np.int32)], X,
        builtin_options=table("SplitVOptions", num_splits=1),
    ),
    "mirror_pad by 64 bits": file(
        "MIRROR_PAD", 1, [X, np.array([[0, 1], [2, 2], [0, 0]], np.int64)],
        np.empty((3, 7, 4), np.float32), builtin_options=table("MirrorPadOptions"),
    ),
    "tile by 64 bits": file(
        "TILE", 1, [X, np.array([1, 3, 2], np.int64)], np.empty((2, 9, 8), np.float32)
    ),
    "space_to_depth without options of empty tables": file(
        "SPACE_TO_DEPTH", 1, [random((1, 2, 4, 3), "f32")], np.empty((1, 1, 2, 12), np.float32),
        builtin_options=table("SpaceToDepthOptions", block_size=2),
    ),
    "gather_nd of whole elements and of none": file(
        "GATHER_ND", 1, [X, np.array([[1, 2, 3]], np.int64)], np.empty((1,), np.float32)
    ),
    "squared difference that grows both": file(
        "SQUARED_DIFFERENCE", 1, [X[:1], X[:, :1]], X,
    ),
    "batch_matmul of one matrix for all": file(
        "BATCH_MATMUL", 1, [np.round(4 * X), np.round(4 * X[0, :, :2])],
        np.empty((2, 4, 2), np.float32), builtin_options=table("BatchMatMulOptions", adj_x=True),
    ),
    "concatenation along an axis from the end": file(
        "CONCATENATION", 1, [X, X], np.empty((2, 3, 8), np.float32),
        builtin_options=table("ConcatenationOptions", axis=-1),
    ),
    "concatenation to a result without a shape": file(
        "CONCATENATION", 1, [X, X], np.empty((), np.float32),
        builtin_options=table("ConcatenationOptions", axis=-2),
    ),
    "pack along an axis from the end": file(
        "PACK", 1, [X, X], np.empty((2, 3, 4, 2), np.float32),
        builtin_options=table("PackOptions", values_count=2, axis=-1),
    ),
    "pack to a result without a shape": file(
        "PACK", 1, [X, X], np.empty((), np.float32),
        builtin_options=table("PackOptions", values_count=2, axis=-4),
    ),
    "unpack along an axis from the end": file(
        "UNPACK", 1, [X[:, :1]], np.empty((2, 4), np.float32),
        builtin_options=table("UnpackOptions", num=1, axis=-2),
    ),
    "padv2 with the number in a list": file(
        "PADV2", 1, [X, np.array([[0, 1], [2, 0], [0, 0]], np.int32), np.array([7], np.float32)],
        np.empty((3, 5, 4), np.float32),
    ),
    "pad with the paddings in 64 bits, to a result without a shape": file(
        "PAD", 1, [X, np.array([[0, 1], [2, 0], [0, 0]], np.int64)], np.empty((), np.float32)
    ),
    "transpose by axes from the end": file(
        "TRANSPOSE", 1, [X, np.array([-1, 0, -2], np.int32)], np.empty((4, 2, 3), np.float32)
    ),
    "squeeze of an axis from the end": file(
        "SQUEEZE", 1, [X[:, :1]], np.empty((2, 4), np.float32),
        builtin_options=table("SqueezeOptions", squeeze_dims=(-2,)),
    ),
    "mean of an axis that is a scalar, to a result without a shape": file(
        "MEAN", 1, [X, np.array(-2, np.int32)], np.empty((), np.float32),
        builtin_options=table("ReducerOptions", keep_dims=True),
    ),
    "sum of one axis twice": file(
        "SUM", 1, [X, np.array([1, -2], np.int32)], np.empty((2, 4), np.float32),
        builtin_options=table("ReducerOptions"),
    ),
    "strided slice with a new axis, to a result without a shape": file(
        "STRIDED_SLICE", 1, [X, *np.array([[0, 0], [0, 2], [1, 1]], np.int32)],
        np.empty((), np.float32), builtin_options=table("StridedSliceOptions", new_axis_mask=1),
    ),
    **{
        f"cast of {x.value} to {y.value}": file(
            "CAST", 5, [numbers(x)], np.empty(numbers(x).shape, y.numpy)
        )
        for x, y in itertools.product(CAST, CAST)
    },
}  # fmt: skip
"""What is special -> the file and its input."""


@needs_oracle
@pytest.mark.parametrize("place", [-1, 2])
def test_a_position_beyond_the_axis_is_an_error_when_it_is_read(place: int) -> None:
    data, x = file("GATHER", 1, [X, np.array([place], np.int32)], X[:1])
    oracle, graph = Oracle(data), read(data)
    assert opaques(graph) == []
    with pytest.raises(RuntimeError):
        oracle.run([x])
    message = f"GATHER 't2': position is {place}, must be within 0..1"
    with pytest.raises(UnsupportedOperation, match=f"^{re.escape(message)}$"):
        run(graph, [x])


@needs_oracle
@pytest.mark.parametrize("name", FORMS)
def test_forms_are_read_and_computed_alike(name: str) -> None:
    data, x = FORMS[name]
    graph = read(data)
    assert opaques(graph) == []
    (have,), (want,) = run(graph, [x]), Oracle(data).run([x])
    assert compare(f"form {name}", have, want) == 0


@needs_oracle
@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("axis", [1, -2])
def test_the_axis_of_split_is_a_scalar_or_in_a_list(shape: tuple[int, ...], axis: int) -> None:
    kinds = [("x", (2, 6, 4), 0), ("y", (2, 3, 4), 0), ("z", (2, 3, 4), 0)]
    tensors = [table("Tensor", name=n, shape=s, buffer=b) for n, s, b in kinds]
    tensors.append(table("Tensor", name="axis", shape=shape, buffer=1, type=2))
    options = table("SplitOptions", num_splits=2)
    data = model(
        tensors,
        [operator([3, 0], [1, 2], builtin_options=options)],
        codes=[code("SPLIT")],
        outputs=[1, 2],
        constants=[np.full(shape, axis, np.int32)],
    )
    graph, x = read(data), random((2, 6, 4), "f32")
    assert opaques(graph) == []
    for have, want in zip(run(graph, [x]), Oracle(data).run([x]), strict=True):
        np.testing.assert_array_equal(have, want)


@needs_oracle
def test_an_input_that_is_listed_twice_is_one_input() -> None:
    data = model(
        [table("Tensor", name=n, shape=(4,)) for n in "xy"],
        [operator([0], [1])],
        codes=[code("RELU")],
        inputs=[0, 0],
    )
    graph, x = read(data), random((4,), "f32")
    assert graph.input_names == ("x",)
    np.testing.assert_array_equal(run(graph, [x])[0], Oracle(data).run([x, x])[0])


@needs_oracle
@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_numbers_of_32_bits_need_no_good_scale(scale: float) -> None:
    more: dict[str, Any] = {"kind": "INT32", "quantization": quantization((scale,))}
    data = relu(
        tensors=[tensor("x", **more), tensor("y", **more)],
        operators=[operator([0, 0], [1], builtin_options=table("AddOptions"))],
        codes=[code("ADD")],
    )
    x = np.array([[1, -2, 3, 4]], np.int32)
    np.testing.assert_array_equal(run(read(data), [x])[0], Oracle(data).run([x])[0])


def test_data_in_another_file_that_nobody_reads_is_no_trouble() -> None:
    data = relu(tensors=[tensor("x"), tensor("y"), tensor("z", external_buffer=1)])
    assert opaques(read(data)) == []
