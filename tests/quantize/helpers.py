"""Float models and calibration data for the tests of this room and of `teflon quantize`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from float_nets import mobilenet_v2
from pictures import crops, photos
from teflon.frontend.tflite.writer import write
from teflon.ir import Value
from teflon.ir.builder import Builder
from teflon.ir.types import Array

SIZE = 96
COUNT = 12


def save_pictures(folder: Path, count: int = COUNT, size: int = SIZE) -> Path:
    """Save crops of the photos that packages ship, and return the folder."""
    folder.mkdir()
    for number, crop in enumerate(crops(count)):
        crop.resize((size, size)).save(folder / f"{number:03}.png")
    return folder


@cache
def mobilenet() -> bytes:
    """A float MobileNetV2 of width 0.35 that tells the photos apart."""
    found = [np.asarray(c.resize((SIZE, SIZE)), np.float32) / 127.5 - 1 for c in crops(COUNT)]
    classes = [n % len(photos()) for n in range(COUNT)]
    return mobilenet_v2(np.stack(found), classes, width=0.35)


def small(middle: Callable[[Builder, Value], Value] | None = None, **writing: Any) -> bytes:
    """Two float convolutions on [1, 16, 16, 3], with something between them, as a .tflite file."""
    b, rng = Builder("small"), np.random.default_rng(1)
    y = b.conv2d(b.input("x", "f32", (1, 16, 16, 3)), _weights(rng, (8, 3, 3, 3)), name="first")
    if middle is not None:
        y = middle(b, y)
    y = b.conv2d(y, _weights(rng, (8, 3, 3, y.shape[3])), name="second")
    b.output(y)
    return write(b.build(), **writing)


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(0, 0.3, shape).astype(np.float32)


def small_onnx(batch: int | str = 1, size: int | str = 16, opset: int = 17) -> onnx.ModelProto:
    """A float classifier for [batch, 3, size, size]: two convolutions, pooling, scores."""
    rng = np.random.default_rng(3)
    constants = {
        "w1": _weights(rng, (16, 3, 3, 3)), "b1": _weights(rng, (16,)),
        "w2": _weights(rng, (16, 16, 3, 3)), "b2": _weights(rng, (16,)),
        "w3": _weights(rng, (5, 16)), "b3": _weights(rng, (5,)),
    }  # fmt: skip
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], **pads),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2], **pads),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )  # fmt: skip
