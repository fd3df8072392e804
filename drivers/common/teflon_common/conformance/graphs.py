"""Generated models: quantisation, weights and inputs that use the whole range."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array

Random = np.random.Generator

ACTIVATIONS = ("none", "none", "relu", "relu6", "relu_n1_to_1")


def pick(random: Random, *choices: Any) -> Any:
    """Return one of some choices."""
    return choices[int(random.integers(len(choices)))]


def random_inputs(random: Random, graph: Graph) -> list[Array]:
    """Values over the whole range of each input's type; small numbers for real ones."""
    found = []
    for value in graph.inputs:
        dtype = value.type.dtype.numpy
        if dtype.kind == "f":
            found.append(random.standard_normal(value.shape).astype(dtype))
            continue
        low, high = value.type.dtype.range
        found.append(random.integers(low, high + 1, value.shape, dtype))
    return found


def quantization(random: Random, dtype: str) -> dict[str, Any]:
    """A scale and a zero point anywhere in the range."""
    low, high = (0, 255) if dtype == "u8" else (-128, 127)
    zero = pick(random, low, high, int(random.integers(low, high + 1)))
    return {"scale": float(np.exp(random.uniform(-5, 0))), "zero_point": zero}


def weights(
    random: Random, dtype: str, shape: tuple[int, ...], channels: int = 0
) -> tuple[Array, dict[str, Any]]:
    """Weights and how they are quantised; with `channels` a scale for each of them."""
    low, high = (0, 255) if dtype == "u8" else (-127, 127)
    data = random.integers(low, high + 1, shape, np.uint8 if dtype == "u8" else np.int8)
    zero = int(random.integers(low, high + 1)) if dtype == "u8" else 0
    scale: Any = float(np.exp(random.uniform(-7, -3)))
    if channels:
        scale = [scale * float(random.uniform(0.5, 1)) for _ in range(channels)]
    return data, {"weight_scale": scale, "weight_zero_point": zero}


def result(random: Random, dtype: str, unit: float, terms: int) -> dict[str, Any]:
    """An output quantisation that uses a good part of the range."""
    found = quantization(random, dtype)
    spread = 75.0 * 75.0 * np.sqrt(terms)
    found["scale"] = float(unit * spread / random.uniform(10, 120))
    return found


def convolved(
    b: Builder, random: Random, x: Value, shape: tuple[int, ...], depthwise: bool,
    per_axis: bool = False, bias: bool | None = None, **how: Any,
) -> Value:  # fmt: skip
    """Add a convolution with random weights and, mostly or as told, a bias."""
    dtype = x.type.dtype.value
    channels = shape[3] if depthwise else shape[0]
    data, scaled = weights(random, dtype, shape, channels if per_axis else 0)
    unit = x.type.scale * float(np.max(scaled["weight_scale"]))
    terms = shape[1] * shape[2] * (1 if depthwise else shape[3])
    wanted = random.random() < 0.8 if bias is None else bias
    offsets = random.integers(-20000, 20000, channels, np.int32) if wanted else None
    add = b.depthwise_conv2d if depthwise else b.conv2d
    ending = {**result(random, dtype, unit, terms), **how}
    return add(x, data, offsets, **{**scaled, **ending})
