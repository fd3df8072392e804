"""Random quantisation, weights and inputs for generated models, which use the whole range."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array

Random = np.random.Generator

ACTIVATIONS = ("none", "none", "relu", "relu6", "relu_n1_to_1")


def pick(random: Random, *choices: Any) -> Any:
    """Return a random one of the choices."""
    return choices[int(random.integers(len(choices)))]


def random_inputs(random: Random, graph: Graph) -> list[Array]:
    """Return inputs with values over the whole range of integer types; small numbers for floats."""
    found = []
    for value in graph.given:
        dtype = value.type.dtype.numpy
        if dtype.kind == "f":
            found.append(random.standard_normal(value.shape).astype(dtype))
            continue
        low, high = value.type.dtype.range
        found.append(random.integers(low, high + 1, value.shape, dtype))
    return found


def quantization(random: Random, dtype: str) -> dict[str, Any]:
    """Return a random scale, and a random zero point in the type's range."""
    low, high = (0, 255) if dtype == "u8" else (-128, 127)
    zero = pick(random, low, high, int(random.integers(low, high + 1)))
    return {"scale": float(np.exp(random.uniform(-5, 0))), "zero_point": zero}


def weights(
    random: Random, dtype: str, shape: tuple[int, ...], terms: int, channels: int = 0
) -> tuple[Array, dict[str, Any]]:
    """Return random weights and their quantisation; with `channels`, a scale for each channel.

    In one of four cases, the zero point of uint8 weights is anywhere in the range. Otherwise it is
    near the middle: sums of `terms` products would else be so large that all results are clamped.
    """
    low, high = (0, 255) if dtype == "u8" else (-127, 127)
    data = random.integers(low, high + 1, shape, np.uint8 if dtype == "u8" else np.int8)
    zero = 0
    if dtype == "u8":
        reach = 127 if random.random() < 0.25 else max(4, int(100 / np.sqrt(terms)))
        zero = 128 + int(random.integers(-reach, reach + 1))
    scale: Any = float(np.exp(random.uniform(-7, -3)))
    if channels:
        scale = [scale * float(random.uniform(0.5, 1)) for _ in range(channels)]
    return data, {"weight_scale": scale, "weight_zero_point": zero}


def result(
    random: Random, x: Value, scaled: dict[str, Any], terms: int
) -> dict[str, Any]:  # fmt: skip
    """Return a quantisation of the output with which results use a large part of the range."""
    low, high = x.type.dtype.range
    middle = (low + high) / 2
    offset = middle - x.type.zero_point
    slant = 127.5 - scaled["weight_zero_point"] if low == 0 else 0.0
    unit = x.type.scale * float(np.max(scaled["weight_scale"]))
    spread = np.sqrt(terms * (74.0**2 + offset**2) * (74.0**2 + slant**2))
    scale = unit * spread / float(random.uniform(20, 60))
    centre = middle - terms * offset * slant * unit / scale + float(random.uniform(-60, 60))
    return {"scale": float(scale), "zero_point": int(np.clip(round(centre), low, high))}


def convolved(
    b: Builder, random: Random, x: Value, shape: tuple[int, ...], depthwise: bool,
    per_axis: bool = False, bias: bool | None = None, **how: Any,
) -> Value:  # fmt: skip
    """Add a convolution with random weights; `bias` None: it has a bias in four of five cases."""
    channels = shape[3] if depthwise else shape[0]
    terms = shape[1] * shape[2] * (1 if depthwise else shape[3])
    data, scaled = weights(random, x.type.dtype.value, shape, terms, channels if per_axis else 0)
    wanted = random.random() < 0.8 if bias is None else bias
    reach = int(40 * np.sqrt(terms) * 100)
    offsets = random.integers(-reach, reach, channels, np.int32) if wanted else None
    add = b.depthwise_conv2d if depthwise else b.conv2d
    return add(x, data, offsets, **{**scaled, **result(random, x, scaled, terms), **how})
