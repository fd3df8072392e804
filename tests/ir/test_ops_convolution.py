"""Convolutions and the fully connected layer against the reference kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from teflon.ir import Value
from teflon.ir.quantized import float32_quotient
from tests.ir.helpers import BYTES, REAL, Maker, run_ops, same
from tests.oracle import needs_oracle

pytestmark = needs_oracle

KINDS = ["u8", "i8", "i8 per axis", REAL]
ACTIVATIONS = ["none", "relu", "relu6", "relu_n1_to_1"]


def constants(b: Maker, x: Value, kind: str, shape: Sequence[int], axis: int) -> tuple[Any, Any]:
    """Return (weights, bias) for an input; uint8 weights have a zero point anywhere."""
    dtype = kind.split()[0]
    outputs = shape[axis]
    if dtype == REAL:
        return b.constant(b.numbers(REAL, shape)), b.constant(b.numbers(REAL, [outputs]))
    w = b.numbers(dtype, shape)
    scale: Any = b.scale()
    if kind.endswith("axis"):
        scale = [b.scale() for _ in range(outputs)]
    weights = b.constant(w, scale, b.zero_point(dtype) if dtype == "u8" else 0, axis)
    scales = np.atleast_1d(np.asarray(scale, np.float32)) * np.float32(x.type.scale)
    bias = b.rng.integers(-(2**13), 2**13, outputs).astype(np.int32)
    per_axis = kind.endswith("axis")
    return weights, b.constant(bias, scales.tolist() if per_axis else float(scales[0]))


def ending(b: Maker, x: Value, w: Value, taps: int) -> dict[str, Any]:
    """Return a result's quantisation that neither saturates everything nor nothing."""
    if x.type.quantization is None or w.type.quantization is None:
        return {}
    scale = x.type.scale * max(w.type.quantization.scales) * 74 * 74 * taps**0.5 / 60
    return b.like(x, scale)


def conv(
    b: Maker, kind: str, size: tuple[int, int, int], outputs: int, kernel: tuple[int, int],
    *, groups: int = 1, batch: int = 1, **how: Any,
) -> Value:  # fmt: skip
    x = b.x(kind.split()[0], (batch, *size))
    depth = size[2] // groups
    w, bias = constants(b, x, kind, (outputs, *kernel, depth), 0)
    how = {**ending(b, x, w, kernel[0] * kernel[1] * depth), **how}
    return b.conv2d(x, w, bias, **how)


def tolerance(kind: str) -> float:
    return 1e-5 if kind == REAL else 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_conv2d_shapes(kind: str, padding: str) -> None:
    kernels = [(1, 1), (3, 3), (5, 5), (1, 7), (2, 3), (4, 1)]
    strides = [(1, 1), (2, 2), (1, 3), (3, 2)]
    channels = [(1, 1), (3, 8), (16, 5), (33, 17)]
    for seed, (kernel, stride, (inputs, outputs)) in enumerate(
        itertools.product(kernels, strides, channels)
    ):
        same(
            f"conv2d {kind}",
            lambda b, k=kernel, s=stride, i=inputs, o=outputs: conv(  # type: ignore[misc]
                b, kind, (9, 11, i), o, k, stride=s, padding=padding
            ),
            seed,
            tolerance=tolerance(kind),
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dilation", [(2, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_conv2d_dilation(kind: str, dilation: tuple[int, int], padding: str) -> None:
    same(
        f"conv2d dilated {kind}",
        lambda b: conv(b, kind, (13, 12, 4), 6, (3, 3), dilation=dilation, padding=padding),
        7,
        tolerance=tolerance(kind),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_conv2d_activations(kind: str, activation: str) -> None:
    for seed in range(8):
        same(
            f"conv2d {activation} {kind}",
            lambda b: conv(b, kind, (6, 5, 7), 9, (3, 3), activation=activation),
            seed,
            tolerance=tolerance(kind),
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "outputs", "groups"), [(8, 4, 2), (6, 6, 6), (12, 8, 4)])
def test_conv2d_groups(kind: str, channels: int, outputs: int, groups: int) -> None:
    same(
        f"conv2d grouped {kind}",
        lambda b: conv(b, kind, (7, 6, channels), outputs, (3, 3), groups=groups, batch=2),
        groups,
        tolerance=tolerance(kind),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_conv2d_batches_and_large_sums(kind: str) -> None:
    """More products than float32 adds exactly; several images; one row of patches at a time."""
    same(
        f"conv2d large {kind}",
        lambda b: conv(b, kind, (5, 5, 300), 4, (5, 5), batch=3, padding="valid"),
        1,
        tolerance=tolerance(kind),
    )
    same(
        f"conv2d large {kind}",
        lambda b: conv(b, kind, (90, 80, 24), 3, (3, 3)),
        2,
        tolerance=tolerance(kind),
    )


@pytest.mark.parametrize("kind", ["u8", "i8", REAL])
def test_no_bias_is_a_bias_of_zeros(kind: str) -> None:
    """TFLite refuses a convolution without bias; frontends and passes may make one."""
    b = Maker(3)
    x = b.x(kind, (1, 6, 6, 4))
    w, _ = constants(b, x, kind, (5, 3, 3, 4), 0)
    zeros = b.constant(np.zeros(5, np.float32 if kind == REAL else np.int32))
    how = ending(b, x, w, 36)
    b.output(b.conv2d(x, w, **how), b.conv2d(x, w, zeros, **how))
    without, with_zeros = run_ops(b.build(), [b.numbers(kind, x.shape)])
    assert np.array_equal(without, with_zeros)


@pytest.mark.parametrize("dtype", BYTES)
def test_conv2d_multipliers_of_every_size(dtype: str) -> None:
    """Output scales far below and above the accumulator's: shifts both ways, saturation."""
    for seed, factor in enumerate([1e-3, 0.05, 0.4, 0.9, 1.0, 1.7, 30.0, 1e4, 1e6]):

        def make(b: Maker, factor: float = factor) -> Value:
            x = b.x(dtype, (1, 4, 4, 3))
            w, bias = constants(b, x, dtype, (6, 2, 2, 3), 0)
            return b.conv2d(x, w, bias, **b.like(x, x.type.scale * w.type.scale * factor))

        same(f"conv2d multipliers {dtype}", make, seed)


def depthwise(
    b: Maker, kind: str, channels: int, multiplier: int, kernel: tuple[int, int], **how: Any
) -> Value:
    x = b.x(kind.split()[0], (2, 9, 10, channels))
    w, bias = constants(b, x, kind, (1, *kernel, channels * multiplier), 3)
    how = {**ending(b, x, w, kernel[0] * kernel[1]), **how}
    return b.depthwise_conv2d(x, w, bias, **how)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_depthwise_shapes(kind: str, padding: str) -> None:
    kernels = [(1, 1), (3, 3), (5, 5), (2, 3), (1, 7)]
    strides = [(1, 1), (2, 2), (2, 1)]
    widths = [(1, 1), (1, 8), (3, 1), (16, 2), (5, 3)]
    for seed, (kernel, stride, (channels, multiplier)) in enumerate(
        itertools.product(kernels, strides, widths)
    ):
        same(
            f"depthwise {kind}",
            lambda b, k=kernel, s=stride, c=channels, m=multiplier: depthwise(  # type: ignore[misc]
                b, kind, c, m, k, stride=s, padding=padding
            ),
            seed,
            tolerance=tolerance(kind),
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_depthwise_activations_and_dilation(
    kind: str, activation: str, dilation: tuple[int, int]
) -> None:
    same(
        f"depthwise {activation} {kind}",
        lambda b: depthwise(b, kind, 6, 1, (3, 3), activation=activation, dilation=dilation),
        5,
        tolerance=tolerance(kind),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_transpose_conv(kind: str, padding: str) -> None:
    cases = itertools.product(
        [(1, 1), (2, 2), (3, 3), (4, 2)], [(1, 1), (2, 2), (3, 2)], [True, False]
    )
    for seed, (kernel, stride, with_bias) in enumerate(cases):

        def make(
            b: Maker, k: tuple[int, int] = kernel, s: tuple[int, int] = stride,
            with_bias: bool = with_bias,
        ) -> Value:  # fmt: skip
            x = b.x(kind.split()[0], (2, 4, 5, 6))
            w, bias = constants(b, x, kind, (7, *k, 6), 0)
            reach = [max(a - c, 0) if padding == "valid" else 0 for a, c in zip(k, s, strict=True)]
            size = (4 * s[0] + reach[0], 5 * s[1] + reach[1])
            return b.transpose_conv(
                x, w, bias if with_bias else None, size=size, stride=s, padding=padding,
                **ending(b, x, w, 6 * k[0] * k[1]),
            )  # fmt: skip

        same(f"transpose_conv {kind}", make, seed, tolerance=tolerance(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fully_connected(kind: str, activation: str) -> None:
    shapes = [
        ((1, 10), 4),
        ((3, 33), 17),
        ((2, 3, 4), 1),
        ((1, 2, 2, 8), 5),
        ((1, 1024), 40),
        ((64, 100), 50),
    ]
    for seed, ((shape, outputs), with_bias) in enumerate(itertools.product(shapes, [True, False])):
        for keep in (False, True):

            def make(
                b: Maker, shape: tuple[int, ...] = shape, outputs: int = outputs,
                with_bias: bool = with_bias, keep: bool = keep,
            ) -> Value:  # fmt: skip
                x = b.x(kind.split()[0], shape)
                w, bias = constants(b, x, kind, (outputs, shape[-1]), 0)
                return b.fully_connected(
                    x, w, bias if with_bias else None, keep_num_dims=keep, activation=activation,
                    **ending(b, x, w, shape[-1]),
                )  # fmt: skip

            same(f"fully_connected {kind}", make, seed, tolerance=tolerance(kind))


def test_fully_connected_int8_weights_with_zero_point() -> None:
    """Per-tensor int8 honours the weights' zero point, unlike the convolution."""

    def make(b: Maker) -> Value:
        x = b.x("i8", (3, 20))
        w = b.constant(b.numbers("i8", (6, 20)), b.scale(), 9)
        return b.fully_connected(x, w, **ending(b, x, w, 20))

    for seed in range(5):
        same("fully_connected zero point", make, seed)


def test_wide_activations() -> None:
    """int16 activations: 64-bit accumulators and bias, one rounding."""

    def make(b: Maker, kind: str) -> Value:
        x = b.x("i16", (1, 6, 6, 8), scale=float32_quotient(1.0, 3000.0))
        shape, axis = ((5, 3, 3, 8), 0) if kind == "conv2d" else ((1, 3, 3, 8), 3)
        scales = [b.scale() for _ in range(shape[axis])]
        w = b.constant(b.numbers("i8", shape), scales, axis=axis)
        factors = np.asarray(scales, np.float32) * np.float32(x.type.scale)
        bias = b.constant(b.rng.integers(-(2**20), 2**20, shape[axis]), factors.tolist())
        how: Any = b.like(x, x.type.scale * max(scales) * 74 * 10)
        return (b.conv2d if kind == "conv2d" else b.depthwise_conv2d)(x, w, bias, **how)

    def connected(b: Maker) -> Value:
        x = b.x("i16", (64, 30), scale=float32_quotient(1.0, 3000.0))
        w = b.constant(b.numbers("i8", (20, 30)), b.scale())
        bias = b.constant(b.rng.integers(-(2**20), 2**20, 20), x.type.scale * w.type.scale)
        return b.fully_connected(x, w, bias, **b.like(x, x.type.scale * w.type.scale * 400))

    for seed in range(4):
        same("fully_connected i16", connected, seed)
        same("conv2d i16", lambda b: make(b, "conv2d"), seed)
        same("depthwise i16", lambda b: make(b, "depthwise"), seed)
