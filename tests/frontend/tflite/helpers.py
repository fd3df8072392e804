"""One small graph or more for each operation of the IR, as a TFLite file can say it.

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
from teflon.ir import Array, DType, Graph, Value, ops
from teflon.ir.builder import Builder
from teflon.ir.builder_base import Kernel

Example = Callable[[], Graph]

SHAPE = (1, 6, 5, 4)
IMAGE = {"u8": (0.5, 128), "i8": (0.5, -3), "i16": (0.3, 0), "f32": (None, 0)}


def random(shape: tuple[int, ...], dtype: str = "u8", seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "f32":
        return rng.standard_normal(shape).astype(np.float32)
    kind = DType(dtype)
    low, high = kind.range if kind is not DType.INT32 else (-500, 500)
    return rng.integers(low, high, shape, kind.numpy, endpoint=True)


def image(b: Builder, dtype: str = "u8", shape: tuple[int, ...] = SHAPE, name: str = "x") -> Value:
    scale, zero_point = IMAGE[dtype]
    return b.input(name, dtype, shape, scale, zero_point)


def one(build: Callable[[Builder, Value], Any], dtype: str = "u8") -> Example:
    """A graph of one operation on one image."""

    def make() -> Graph:
        b = Builder("one")
        made = build(b, image(b, dtype))
        b.output(*(made if isinstance(made, tuple) else (made,)))
        return b.build()

    return make


def two(build: Callable[[Builder, Value, Value], Value], dtype: str = "u8") -> Example:
    """A graph of one operation on two images."""

    def make() -> Graph:
        b = Builder("two")
        b.output(build(b, image(b, dtype), image(b, dtype, name="y")))
        return b.build()

    return make


def _convolutions(dtype: str) -> dict[str, Example]:
    bias = random((8,), "i32")
    weights = random((8, 3, 2, 4), dtype)
    deep = random((1, 3, 3, 8), dtype)
    square = random((8, 3, 3, 4), dtype)
    matrix = random((8, 120), dtype)
    rows = random((8, 4), dtype)
    how: Any = Kernel(weight_scale=0.02, weight_zero_point=128 if dtype == "u8" else 0)
    return {
        "conv2d_same_stride": one(
            lambda b, x: b.conv2d(
                x, weights, bias, stride=(2, 1), padding="same", activation="relu6", **how
            ),
            dtype,
        ),
        "conv2d_valid_dilated": one(
            lambda b, x: b.conv2d(x, weights, bias, padding="valid", dilation=(2, 3), **how), dtype
        ),
        "conv2d_without_bias": one(lambda b, x: b.conv2d(x, weights, **how), dtype),
        "depthwise_conv2d": one(
            lambda b, x: b.depthwise_conv2d(
                x, deep, bias, stride=2, padding="same", activation="relu", **how
            ),
            dtype,
        ),
        "transpose_conv": one(
            lambda b, x: b.transpose_conv(
                x, square, bias, size=(12, 10), stride=2, padding="same", **how
            ),
            dtype,
        ),
        "fully_connected": one(
            lambda b, x: b.fully_connected(x, matrix, bias, activation="relu", **how), dtype
        ),
        "fully_connected_keep_num_dims": one(
            lambda b, x: b.fully_connected(x, rows, keep_num_dims=True, **how), dtype
        ),
    }


def _per_axis() -> dict[str, Example]:
    bias = random((8,), "i32")
    square = random((8, 3, 3, 4), "i8")
    deep = random((1, 3, 3, 8), "i8")
    how: Any = Kernel(weight_scale=[0.01 * (i + 1) for i in range(8)])
    return {
        "conv2d_per_axis": one(lambda b, x: b.conv2d(x, square, bias, **how), "i8"),
        "depthwise_conv2d_per_axis_dilated": one(
            lambda b, x: b.depthwise_conv2d(x, deep, bias, dilation=2, **how), "i8"
        ),
        "transpose_conv_per_axis": one(
            lambda b, x: b.transpose_conv(x, square, size=(8, 7), padding="valid", **how), "i8"
        ),
    }


def _arithmetic(dtype: str) -> dict[str, Example]:
    row = random((1, 1, 1, 4), dtype)
    return {
        "add": two(lambda b, x, y: b.add(x, y, activation="relu"), dtype),
        "add_constant": one(lambda b, x: b.add(x, row), dtype),
        "sub": two(lambda b, x, y: b.sub(x, y, activation="relu6"), dtype),
        "mul": two(lambda b, x, y: b.mul(x, y), dtype),
        "maximum": two(lambda b, x, y: b.maximum(x, y), dtype),
        "minimum": two(lambda b, x, y: b.minimum(x, y), dtype),
        "relu": one(lambda b, x: b.relu(x), dtype),
        "relu6": one(lambda b, x: b.relu6(x), dtype),
        "relu_n1_to_1": one(lambda b, x: b.relu_n1_to_1(x), dtype),
        "leaky_relu": one(lambda b, x: b.leaky_relu(x, 0.3), dtype),
        "hard_swish": one(lambda b, x: b.hard_swish(x), dtype),
        "logistic": one(lambda b, x: b.logistic(x), dtype),
        "tanh": one(lambda b, x: b.tanh(x), dtype),
        "softmax": one(lambda b, x: b.softmax(x, 0.7), dtype),
        "average_pool2d": one(
            lambda b, x: b.average_pool2d(x, (3, 2), stride=(2, 1), activation="relu"), dtype
        ),
        "max_pool2d": one(lambda b, x: b.max_pool2d(x, 2, stride=2, padding="valid"), dtype),
        "mean": one(lambda b, x: b.mean(x, (1, 2), keep_dims=True), dtype),
        "resize_nearest": one(
            lambda b, x: b.resize_nearest_neighbor(x, (9, 11), half_pixel_centers=True), dtype
        ),
        "resize_bilinear": one(
            lambda b, x: b.resize_bilinear(x, (9, 11), align_corners=True), dtype
        ),
        "resize_bilinear_centers": one(
            lambda b, x: b.resize_bilinear(x, (9, 11), half_pixel_centers=True), dtype
        ),
        "dequantize": one(lambda b, x: b.dequantize(x), dtype),
    }


def _others() -> dict[str, Example]:
    square, bias = random((8, 3, 3, 4), "f32"), random((8,), "f32")
    return {
        "conv2d_float": one(lambda b, x: b.conv2d(x, square, bias), "f32"),
        "abs": one(lambda b, x: b.abs(x), "i8"),
        "quantize": one(lambda b, x: b.quantize(x, "u8", scale=0.03, zero_point=100), "f32"),
        "requantize": one(lambda b, x: b.quantize(x, "i8", scale=0.6, zero_point=-5)),
        "mean_to_scalar": one(lambda b, x: b.mean(x, (0, 1, 2, 3))),
        "logistic_i16": one(lambda b, x: b.logistic(x, scale=1 / 32768, zero_point=0), "i16"),
        "add_i16": two(lambda b, x, y: b.add(x, y, scale=0.5, zero_point=0), "i16"),
        "detection_post_process": _detection,
        "chain": _chain,
    }


def _movement() -> dict[str, Example]:
    return {
        "concatenation": two(lambda b, x, y: b.concatenation([x, y, x], axis=2)),
        "split": one(lambda b, x: b.split(x, 3, axis=1)),
        "pack": two(lambda b, x, y: b.pack([x, y], axis=2), "i8"),
        "unpack": one(lambda b, x: b.unpack(x, axis=3), "i8"),
        "pad": one(lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 2, 0, 3))),
        "padv2": one(lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 2, 0, 3), np.array(7, np.int8)), "i8"),
        "reshape": one(lambda b, x: b.reshape(x, (2, 60))),
        "squeeze": one(lambda b, x: b.squeeze(x, (0,))),
        "squeeze_all": one(lambda b, x: b.squeeze(x)),
        "transpose": one(lambda b, x: b.transpose(x, (0, 3, 1, 2)), "i8"),
        "slice": one(lambda b, x: b.slice(x, (0, 1, 2, 0), (1, 3, 2, 4))),
        "strided_slice": one(
            lambda b, x: b.strided_slice(x, (0, 1, 0, 3), (1, 6, 5, 4), (1, 2, 3, 1), (0, 3))
        ),
        "strided_slice_backwards": one(
            lambda b, x: b.strided_slice(x, (0, 5, 3, 0), (1, -1, 0, 4), (1, -2, -1, 1))
        ),
    }


def _detection() -> Graph:
    b = Builder("detection")
    boxes = b.input("boxes", "f32", (1, 12, 4))
    scores = b.input("scores", "f32", (1, 12, 3))
    anchors = np.abs(random((12, 4), "f32"))
    b.output(
        *b.detection_post_process(
            boxes, scores, anchors, max_detections=5, max_classes_per_detection=1,
            detections_per_class=50, use_regular_nms=True, nms_score_threshold=0.125,
            nms_iou_threshold=0.5, num_classes=2, y_scale=10.0, x_scale=10.0, h_scale=5.0,
            w_scale=5.0,
        )
    )  # fmt: skip
    return b.build()


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
    **{f"{name}_u8": make for name, make in (_convolutions("u8") | _arithmetic("u8")).items()},
    **{f"{name}_i8": make for name, make in (_convolutions("i8") | _arithmetic("i8")).items()},
    **_per_axis(),
    **_movement(),
    **_others(),
}
"""A graph by what it has."""


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
    **more: Any,
) -> bytes:
    """Return a file of one subgraph; `constants` become buffers 1, 2, ..."""
    one = {
        "tensors": tensors, "inputs": inputs, "outputs": outputs, "operators": operators,
        "name": "main",
    }  # fmt: skip
    root: dict[str, Any] = {
        "version": 3,
        "operator_codes": codes,
        "subgraphs": [table("SubGraph", **{**one, **(subgraph or {})})],
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
