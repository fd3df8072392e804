"""A float MobileNetV2 as a .tflite file: made here, with the statistics of a trained net."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from teflon.frontend.tflite.writer import write
from teflon.ir import Value
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.types import Array

# Ref: Sandler et al., MobileNetV2 (2018), table 2: expansion, channels, repeats, stride
BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
STEM, HEAD = 32, 1280
_BLOB = np.outer((1, 2, 1), (1, 2, 1)).astype(np.float32) / 4
"""Filters of single channels look like this in trained nets, more or less."""
MEAN = 1.5
"""Of sums before RELU6: with 0, each layer of a random net doubles rounding errors."""
BRANCH = 0.4
"""Deviation of what a block adds to its input."""
LOGIT = 12.0
DAMPING = 0.1
"""Of the last layer's equations: less fits the pictures better, and others worse."""
EVEN = 8
"""Channels are multiples of this."""


def mobilenet_v2(pictures: Array, classes: Sequence[int], width: float = 1.0) -> bytes:
    """Return a float MobileNetV2 that knows the class of each of the pictures.

    `pictures` is float32 [n, size, size, 3] from -1 to 1; classes are counted from 0. Weights are
    random, always the same ones, but scaled and shifted for the pictures as batch normalisation
    does it in a trained net. Only the last layer is trained.
    """
    net = _Net(pictures)
    x = net.conv(net.begin, _channels(STEM, width), 3, 2, "stem")
    for stage, (expansion, channels, repeats, stride) in enumerate(BLOCKS):
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            x = _block(net, x, expansion, _channels(channels, width), step, f"b{stage}_{repeat}")
    x = net.conv(x, _channels(HEAD, max(width, 1.0)), 1, 1, "head")
    x = net.logits(net.mean(x, "pool"), classes, "logits")
    x = net.builder.reshape(x, (1, x.shape[3]))
    net.builder.output(net.builder.softmax(x, name="probability"))
    return write(net.builder.build())


def _channels(count: int, width: float) -> int:
    scaled = max(EVEN, int(count * width + EVEN / 2) // EVEN * EVEN)
    return scaled if scaled >= 0.9 * count * width else scaled + EVEN


def _block(net: _Net, x: Value, expansion: int, channels: int, stride: int, name: str) -> Value:
    """Add an inverted residual: expand, filter each channel, project; add the input if it fits."""
    y, fits = x, stride == 1 and channels == x.shape[3]
    if expansion > 1:
        y = net.conv(y, x.shape[3] * expansion, 1, 1, f"{name}/expand")
    y = net.depthwise(y, stride, f"{name}/depthwise")
    y = net.project(y, channels, BRANCH if fits else 1.0, f"{name}/project")
    return net.add(x, y, f"{name}/add") if fits else y


class _Net:
    """A graph while it grows, and what its tensors hold for some pictures."""

    def __init__(self, pictures: Array) -> None:
        self.builder = Builder("mobilenet_v2")
        self.random = np.random.default_rng(2)
        self.begin = self.builder.input("input", "f32", (1, *pictures.shape[1:]))
        self.held: dict[Value, Array] = {self.begin: pictures}

    def conv(self, x: Value, channels: int, k: int, stride: int, name: str) -> Value:
        """Add a convolution with RELU6."""
        weights = self._he((channels, k, k, x.shape[3]), k * k * x.shape[3])
        alone = Builder()
        y = alone.conv2d(alone.input("x", "f32", x.shape), weights, stride=stride)
        scale, shift, held = _normal(self._held(alone, y, x), MEAN)
        weights *= scale[:, None, None, None]
        y = self.builder.conv2d(x, weights, shift, stride=stride, activation="relu6", name=name)
        self.held[y] = held.clip(0, 6)
        return y

    def depthwise(self, x: Value, stride: int, name: str) -> Value:
        """Add a convolution of each channel by itself with RELU6."""
        weights = self._he((1, 3, 3, x.shape[3]), 36) + _BLOB[None, :, :, None]
        alone = Builder()
        y = alone.depthwise_conv2d(alone.input("x", "f32", x.shape), weights, stride=stride)
        scale, shift, held = _normal(self._held(alone, y, x), MEAN)
        weights *= scale
        y = self.builder.depthwise_conv2d(
            x, weights, shift, stride=stride, activation="relu6", name=name
        )
        self.held[y] = held.clip(0, 6)
        return y

    def project(self, x: Value, channels: int, deviation: float, name: str) -> Value:
        """Add a 1x1 convolution without activation."""
        weights = self._he((channels, 1, 1, x.shape[3]), x.shape[3])
        scale, shift, held = _normal(self.held[x] @ weights[:, 0, 0].T, 0.0, deviation)
        y = self.builder.conv2d(x, weights * scale[:, None, None, None], shift, name=name)
        self.held[y] = held
        return y

    def logits(self, x: Value, classes: Sequence[int], name: str) -> Value:
        """Add the trained layer: ridge regression of the classes, as 0 or LOGIT."""
        features = self.held[x].reshape(len(self.held[x]), -1).astype(np.float64)
        middle = features.mean(0)
        own = features - middle
        wanted = np.eye(max(classes) + 1)[list(classes)] * LOGIT
        within = own @ own.T
        damped = within + np.eye(len(own)) * np.trace(within) / len(own) * DAMPING
        weights = np.linalg.solve(damped, wanted - wanted.mean(0)).T @ own
        shift = wanted.mean(0) - weights @ middle
        w = weights.astype(np.float32)[:, None, None, :]
        return self.builder.conv2d(x, w, shift.astype(np.float32), name=name)

    def add(self, a: Value, b: Value, name: str) -> Value:
        y = self.builder.add(a, b, name=name)
        self.held[y] = self.held[a] + self.held[b]
        return y

    def mean(self, x: Value, name: str) -> Value:
        y = self.builder.mean(x, keep_dims=True, name=name)
        self.held[y] = self.held[x].mean((1, 2), keepdims=True)
        return y

    def _held(self, alone: Builder, y: Value, x: Value) -> Array:
        """Return what a graph of one operation makes of what `x` holds."""
        alone.output(y)
        graph = alone.build()
        return np.concatenate([run(graph, [p[None]])[0] for p in self.held[x]])

    def _he(self, shape: tuple[int, ...], inputs: int) -> Array:
        return self.random.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)


def _normal(held: Array, mean: float, deviation: float = 1.0) -> tuple[Array, Array, Array]:
    """Return factor and shift that give channels this mean and deviation, and the result."""
    axes = tuple(range(held.ndim - 1))
    scale = np.float32(deviation) / (held.std(axes) + np.float32(1e-3))
    shift = np.float32(mean) - held.mean(axes) * scale
    return scale, shift, held * scale + shift
