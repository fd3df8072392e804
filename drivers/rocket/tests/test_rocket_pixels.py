"""A model that prepares its pictures itself: from the pixels on, all of it runs on the NPU."""

from __future__ import annotations

import numpy as np

import teflon
from teflon.frontend.tflite import writer
from teflon.ir import Graph, ops
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from tests.ir.helpers import random_inputs


def prepared() -> Graph:
    """Return a graph of bytes without a scale, made real numbers, scaled, and convolved."""
    b, rng = Builder("pixels"), np.random.default_rng(2)
    x = b.input("x", "u8", (1, 48, 40, 3))
    steps = b.quantize(b.op(ops.Cast, input=x, dtype="f32"), "i8", scale=1.0, zero_point=-128)
    means = b.constant(np.full((1, 1, 1, 3), 77, np.int8), 1.6, 0)
    even = b.sub(steps, means, scale=1.0, zero_point=-5)
    small = b.mul(even, b.constant(np.array(127, np.int8), 1e-4, 0), scale=0.013, zero_point=-5)
    kernel = rng.integers(-127, 128, (16, 3, 3, 3), np.int8)
    b.output(b.conv2d(small, kernel, weight_scale=0.004, scale=0.05, zero_point=-4))
    return b.build()


def test_pixels_without_a_scale_go_to_the_npu() -> None:
    graph = prepared()
    inputs = random_inputs(graph)
    (want,) = run(graph, inputs)
    with teflon.load(writer.write(graph), "sim:rk3588", cache="off") as model:
        kinds = [(op["kind"], op["runs"]) for op in model.report().as_dict()["operations"]]
        (have,) = model.run(inputs[0])
    assert kinds == [("CAST+QUANTIZE+SUB+MUL", True), ("CONV_2D", True)]
    assert model.report().totals()["operations"] == {"rocket rk3588": 2}
    assert np.abs(have.astype(int) - want).max() <= 1
    assert (have != want).mean() < 0.1
