"""What hand-written quantised models are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from teflon.ir.types import Array
from tests.frontend.onnx.builder import Net

Maker = Callable[[], onnx.ModelProto]
MODELS: dict[str, Maker] = {}
IMAGE = (1, 4, 9, 10)

U8, S8 = np.uint8, np.int8


def model(function: Maker) -> Maker:
    """Add a maker to `MODELS`."""
    MODELS[function.__name__] = function
    return function


def begun(name: str, opset: int = 17, shape: tuple[int, ...] = IMAGE) -> tuple[Net, str]:
    n = Net(name, opset, seed=len(name))
    return n, n.input("x", shape)


def integers(n: Net, *shape: int, kind: Any = S8, reach: int = 127) -> Array:
    low = 0 if kind is U8 else -reach
    return n.rng.integers(low, reach, shape, endpoint=True).astype(kind)


def scales(n: Net, count: int, middle: float = 0.01) -> Array:
    return (middle * n.rng.uniform(0.5, 2.0, count)).astype(np.float32)


def channel_weights(n: Net, out: int, depth: int, kernel: int = 3, zeros: bool = True) -> str:
    """Add int8 weights and their DequantizeLinear along axis 0."""
    w = n.const(integers(n, out, depth, kernel, kernel))
    return n.dequantize(w, scales(n, out), np.zeros(out, S8) if zeros else None, axis=0)


def tensor_weights(n: Net, out: int, depth: int, kernel: int = 3, scale: float = 0.01) -> str:
    return n.dequantize(n.const(integers(n, out, depth, kernel, kernel)), scale, S8(0))


def real_bias(n: Net, out: int) -> str:
    return n.const(n.rng.standard_normal(out).astype(np.float32))
