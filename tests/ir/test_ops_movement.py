"""Data movement and detection against the reference kernels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from teflon.frontend.tflite import writer as tflite_writer
from teflon.ir import Quantization, Value
from teflon.ir.types import Array
from tests.counts import compare
from tests.ir.helpers import BYTES, REAL, Maker, run_ops, same
from tests.oracle import Oracle, needs_oracle

pytestmark = needs_oracle

TYPES = [*BYTES, "i16", "i32", REAL]


def like(b: Maker, first: Value, shape: tuple[int, ...]) -> Value:
    """Add an input of another one's type and quantisation."""
    return b.x(first.type.dtype.value, shape, quantization=first.type.quantization)


@pytest.mark.parametrize("dtype", TYPES)
def test_concatenation(dtype: str) -> None:
    cases: list[tuple[int, list[tuple[int, ...]]]] = [
        (3, [(1, 4, 5, 3), (1, 4, 5, 8)]), (1, [(2, 3), (2, 1), (2, 7)]), (0, [(4,), (9,)]),
        (2, [(1, 2, 3, 4)] * 4), (1, [(1, 2, 6)]),
    ]  # fmt: skip
    for seed, (axis, shapes) in enumerate(cases):

        def make(b: Maker, axis: int = axis, shapes: list[tuple[int, ...]] = shapes) -> Value:
            first = b.x(dtype, shapes[0])
            rest = [like(b, first, s) for s in shapes[1:]]
            return b.concatenation([first, *rest], axis)

        same(f"concatenation {dtype}", make, seed)


def test_concatenation_requantises_uint8() -> None:
    def make(b: Maker) -> Value:
        values = [b.x("u8", (2, n, 5), scale=b.scale(0.01, 0.05)) for n in (3, 8, 40)]
        return b.concatenation(values, 1, quantization=b.quantisation("u8", b.scale(0.01, 0.05)))

    for seed in range(200):
        same("concatenation u8 requantised", make, seed)


@pytest.mark.parametrize("dtype", TYPES)
def test_split_pack_unpack(dtype: str) -> None:
    for axis in range(3):
        same(f"split {dtype}", lambda b, a=axis: b.split(b.x(dtype, (4, 6, 8)), 2, a), axis)  # type: ignore[misc]
        same(f"unpack {dtype}", lambda b, a=axis: b.unpack(b.x(dtype, (4, 3, 2)), a), axis)  # type: ignore[misc]

    def pack(b: Maker, axis: int) -> Value:
        first = b.x(dtype, (3, 4, 2))
        return b.pack([first, like(b, first, (3, 4, 2)), like(b, first, (3, 4, 2))], axis)

    for axis in range(4):
        same(f"pack {dtype}", lambda b, a=axis: pack(b, a), axis)  # type: ignore[misc]


@pytest.mark.parametrize("dtype", TYPES)
def test_pad(dtype: str) -> None:
    cases = [((1, 5, 4, 3), (0, 1, 2, 0), (0, 2, 0, 0)), ((2, 3), (1, 0), (0, 4)),
             ((2, 3, 4), (0, 0, 1), (3, 0, 0)), ((1, 2, 2), (0, 0, 0), (0, 0, 0))]  # fmt: skip
    for seed, (shape, before, after) in enumerate(cases):

        def make(
            b: Maker, shape: tuple[int, ...] = shape, before: tuple[int, ...] = before,
            after: tuple[int, ...] = after, filled: bool = False,
        ) -> Value:  # fmt: skip
            x = b.x(dtype, shape)
            value = b.numbers(dtype, (1,)) if filled else None
            return b.pad(x, before, after, value)

        same(f"pad {dtype}", make, seed)
        if dtype != "i16":  # TFLite's PADV2 has no such kernel
            same(f"padv2 {dtype}", lambda b, m=make: m(b, filled=True), seed)  # type: ignore[misc]


@pytest.mark.parametrize("dtype", TYPES)
def test_reshape_squeeze_transpose(dtype: str) -> None:
    same(f"reshape {dtype}", lambda b: b.reshape(b.x(dtype, (2, 3, 4)), (4, 6)), 0)
    same(f"reshape {dtype}", lambda b: b.reshape(b.x(dtype, (1, 1)), ()), 1)
    same(f"squeeze {dtype}", lambda b: b.squeeze(b.x(dtype, (1, 3, 1, 4))), 2)
    same(f"squeeze {dtype}", lambda b: b.squeeze(b.x(dtype, (1, 3, 1, 4)), (2,)), 3)
    for perm in itertools.permutations(range(4)):
        same(f"transpose {dtype}", lambda b, p=perm: b.transpose(b.x(dtype, (2, 3, 4, 5)), p), 4)  # type: ignore[misc]
    same(f"transpose {dtype}", lambda b: b.transpose(b.x(dtype, (7, 3)), (1, 0)), 5)


@pytest.mark.parametrize("dtype", TYPES)
def test_slices(dtype: str) -> None:
    boxes = [((0, 0, 0), (3, 4, 5)), ((1, 2, 3), (2, 1, 2)), ((2, 0, 1), (1, 4, 4))]
    for begin, size in boxes:
        same(
            f"slice {dtype}",
            lambda b, s=begin, n=size: b.slice(b.x(dtype, (3, 4, 5)), s, n),  # type: ignore[misc]
            0,
        )
    steps: list[tuple[Any, ...]] = [
        ((0, 0, 0), (4, 6, 5), (1, 2, 1), ()), ((1, 1, 0), (4, 6, 5), (2, 3, 4), ()),
        ((3, 5, 4), (-1, -1, -1), (-1, -1, -1), ()), ((3, 4, 0), (0, 1, 5), (-2, -1, 2), ()),
        ((2, 0, 1), (3, 6, 2), (1, 1, 1), (0, 2)), ((3, 0, 4), (4, 6, 5), (1, 5, 1), (0,)),
    ]  # fmt: skip
    for begin, end, strides, shrunk in steps:
        same(
            f"strided_slice {dtype}",
            lambda b, s=begin, e=end, t=strides, k=shrunk: b.strided_slice(  # type: ignore[misc]
                b.x(dtype, (4, 6, 5)), s, e, t, k
            ),
            0,
        )


def detection(
    b: Maker, dtype: str, boxes: int, classes: int, background: int, **how: Any
) -> tuple[Value, ...]:
    probability = Quantization.per_tensor(1 / 256) if dtype == "u8" else None
    heads = [
        b.x(dtype, (1, boxes, 4), scale=0.05),
        b.x(dtype, (1, boxes, classes + background), quantization=probability),
    ]
    anchors = b.rng.uniform(0.05, 0.95, (boxes, 4)).astype(np.float32)
    table: Value | Array = anchors
    if dtype == "u8":
        q = np.round(anchors * 250).astype(np.uint8)
        table = b.constant(q, 1 / 250)
    attributes: dict[str, Any] = {
        "max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 0.3,
        "nms_iou_threshold": 0.5, "num_classes": classes, "y_scale": 10.0, "x_scale": 10.0,
        "h_scale": 5.0, "w_scale": 5.0, **how,
    }  # fmt: skip
    return b.detection_post_process(heads[0], heads[1], table, **attributes)


@pytest.mark.parametrize("dtype", ["u8", REAL])
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("regular", [False, True])
def test_detection(dtype: str, background: int, regular: bool) -> None:
    options: list[dict[str, Any]] = [
        {}, {"max_detections": 40}, {"nms_iou_threshold": 0.1}, {"nms_score_threshold": 0.99},
        {"nms_score_threshold": 1e-8, "max_detections": 100, "detections_per_class": 5},
    ]  # fmt: skip
    for seed, (how, boxes) in enumerate(itertools.product(options, [1, 30, 300])):
        b = Maker(seed)
        if boxes == 1:
            how = {**how, "num_classes": 3}
        found = detection(
            b, dtype, boxes, 3 if boxes == 1 else 7, background, use_regular_nms=regular, **how
        )
        b.output(*found)
        graph = b.build()
        inputs = [b.numbers(v.type.dtype.value, v.shape) for v in graph.inputs]
        want = Oracle(tflite_writer.write(graph)).run(inputs)
        have = run_ops(graph, inputs)
        count = int(want[3][0])
        assert have[3][0] == count
        for mine, theirs in zip(have[:3], want[:3], strict=True):
            # Behind the count the fast suppression leaves what was in memory.
            name = f"detection {dtype} {'regular' if regular else 'fast'}"
            assert not compare(name, mine[:, :count], theirs[:, :count])


@pytest.mark.parametrize("dtype", ["u8", REAL])
def test_detection_of_several_classes(dtype: str) -> None:
    for seed, per_box in enumerate([2, 3, 7, 9]):
        b = Maker(seed)
        found = detection(b, dtype, 50, 7, 1, max_classes_per_detection=per_box)
        b.output(*found)
        graph = b.build()
        inputs = [b.numbers(v.type.dtype.value, v.shape) for v in graph.inputs]
        if dtype == "u8":  # no equal scores in a row: their order is the C++ library's choice
            rows = np.arange(50, dtype=np.int64)[:, np.newaxis] + np.arange(8) * 31
            inputs[1] = (rows % 256).astype(np.uint8)[np.newaxis]
        want = Oracle(tflite_writer.write(graph)).run(inputs)
        have = run_ops(graph, inputs)
        assert have[3] == want[3]
        place = [i * per_box + c for i in range(int(want[3][0])) for c in range(min(per_box, 7))]
        for mine, theirs in zip(have[:3], want[:3], strict=True):
            assert not compare(f"detection {dtype} classes", mine[:, place], theirs[:, place])
