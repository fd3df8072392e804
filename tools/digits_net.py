"""A small network for 8x8 digits in numpy: forward pass, backward pass and Adam, in float.

A layer stores what its backward pass needs from the last forward pass. Images are NHWC, weights
OHWI (depthwise [kh, kw, C]), as in TFLite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


def same_padding(size: int, stride: int) -> tuple[int, int]:
    """Return (before, after) of TFLite's SAME padding for a kernel of 3."""
    total = max(0, (-(-size // stride) - 1) * stride + 3 - size)
    return total // 2, total - total // 2


@dataclass
class Layer:
    """Base of all layers: weights, bias and their gradients."""

    weights: Floats
    bias: Floats
    grads: dict[str, Floats] = field(default_factory=dict)
    kept: tuple[Floats, ...] = ()

    def forward(self, x: Floats) -> Floats:
        raise NotImplementedError

    def backward(self, dy: Floats) -> Floats:
        raise NotImplementedError

    def parameters(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield (values, gradient) pairs."""
        yield self.weights, self.grads["weights"]
        yield self.bias, self.grads["bias"]


class Dense(Layer):
    """y = x W^T + b over the last axis: a fully connected layer, or a 1x1 convolution."""

    def forward(self, x: Floats) -> Floats:
        self.kept = (x,)
        return x @ self.weights.T + self.bias

    def backward(self, dy: Floats) -> Floats:
        x, flat = self.kept[0], dy.reshape(-1, dy.shape[-1])
        self.grads = {"weights": flat.T @ x.reshape(-1, x.shape[-1]), "bias": flat.sum(0)}
        return dy @ self.weights


@dataclass
class Window(Layer):
    """Base of 3x3 convolutions with SAME padding: the sum over nine taps."""

    stride: int = 1

    def tap(self, padded: Floats, y: int, x: int, size: int) -> Floats:
        """Return the input elements under the window's element (y, x): a view [N, out, out, C]."""
        out, s = -(-size // self.stride), self.stride
        return padded[:, y : y + (out - 1) * s + 1 : s, x : x + (out - 1) * s + 1 : s]

    def pad(self, x: Floats) -> Floats:
        sides = same_padding(x.shape[1], self.stride)
        return np.pad(x, ((0, 0), sides, sides, (0, 0)))

    def unpad(self, padded: Floats, size: int) -> Floats:
        start = same_padding(size, self.stride)[0]
        return padded[:, start : start + size, start : start + size]


class Conv3x3(Window):
    """Convolution, weights [O, 3, 3, I]."""

    def forward(self, x: Floats) -> Floats:
        self.kept = (x,)
        padded, size = self.pad(x), x.shape[1]
        taps = [(i, j) for i in range(3) for j in range(3)]
        views = (self.tap(padded, i, j, size) @ self.weights[:, i, j].T for i, j in taps)
        total: Floats = sum(views, self.bias)
        return total

    def backward(self, dy: Floats) -> Floats:
        x = self.kept[0]
        padded, size, flat = self.pad(x), x.shape[1], dy.reshape(-1, dy.shape[-1])
        back, dw = np.zeros_like(padded), np.zeros_like(self.weights)
        for i in range(3):
            for j in range(3):
                seen = self.tap(padded, i, j, size)
                dw[:, i, j] = flat.T @ seen.reshape(-1, seen.shape[-1])
                self.tap(back, i, j, size)[...] += dy @ self.weights[:, i, j]
        self.grads = {"weights": dw, "bias": flat.sum(0)}
        return self.unpad(back, size)


class Depthwise3x3(Window):
    """Depthwise convolution, weights [3, 3, C]."""

    def forward(self, x: Floats) -> Floats:
        self.kept = (x,)
        padded, size = self.pad(x), x.shape[1]
        taps = [(i, j) for i in range(3) for j in range(3)]
        views = (self.tap(padded, i, j, size) * self.weights[i, j] for i, j in taps)
        total: Floats = sum(views, self.bias)
        return total

    def backward(self, dy: Floats) -> Floats:
        x = self.kept[0]
        padded, size = self.pad(x), x.shape[1]
        back, dw = np.zeros_like(padded), np.zeros_like(self.weights)
        for i in range(3):
            for j in range(3):
                dw[i, j] = (self.tap(padded, i, j, size) * dy).sum((0, 1, 2))
                self.tap(back, i, j, size)[...] += dy * self.weights[i, j]
        self.grads = {"weights": dw, "bias": dy.sum((0, 1, 2))}
        return self.unpad(back, size)


class DigitsNet:
    """The network: conv 3x3 -> (depthwise -> 1x1) + shortcut -> depthwise /2 -> 1x1
    -> average of 2x2 -> dense.
    """

    def __init__(self, seed: int, width: int = 16, dtype: npt.DTypeLike = np.float32) -> None:
        random = np.random.default_rng(seed)

        def weights(*shape: int, fan_in: int) -> tuple[Floats, Floats]:
            scale = np.sqrt(2 / fan_in)
            outputs = shape[-1] if len(shape) == 3 else shape[0]
            return random.normal(0, scale, shape).astype(dtype), np.zeros(outputs, dtype)

        self.stem = Conv3x3(*weights(width, 3, 3, 1, fan_in=9))
        self.depthwise = Depthwise3x3(*weights(3, 3, width, fan_in=9))
        self.pointwise = Dense(*weights(width, width, fan_in=width))
        self.reduce = Depthwise3x3(*weights(3, 3, width, fan_in=9), stride=2)
        self.expand = Dense(*weights(2 * width, width, fan_in=width))
        self.head = Dense(*weights(10, 8 * width, fan_in=8 * width))
        self.layers: tuple[Layer, ...] = (
            self.stem, self.depthwise, self.pointwise, self.reduce, self.expand, self.head,
        )  # fmt: skip
        self.seen: dict[str, Floats] = {}

    def forward(self, images: Floats) -> Floats:
        """Return the logits of [N, 8, 8, 1] images. `seen` holds every result by name."""
        seen: dict[str, Floats] = {"image": images}
        seen["stem"] = np.clip(self.stem.forward(images), 0, 6)
        seen["depthwise"] = np.maximum(self.depthwise.forward(seen["stem"]), 0)
        seen["pointwise"] = self.pointwise.forward(seen["depthwise"])
        seen["sum"] = np.maximum(seen["stem"] + seen["pointwise"], 0)
        seen["reduce"] = np.maximum(self.reduce.forward(seen["sum"]), 0)
        seen["expand"] = np.maximum(self.expand.forward(seen["reduce"]), 0)
        quarters = seen["expand"].reshape(len(images), 2, 2, 2, 2, -1)
        seen["average"] = quarters.mean((2, 4))
        seen["logits"] = self.head.forward(seen["average"].reshape(len(images), -1))
        self.seen = seen
        return seen["logits"]

    def backward(self, dlogits: Floats) -> Floats:
        """Set the gradients of the layers; return the gradient of the images.

        Uses the last forward pass.
        """
        seen = self.seen
        mean = self.head.backward(dlogits).reshape(seen["average"].shape) / 4
        d = mean.repeat(2, 1).repeat(2, 2)
        d = self.expand.backward(d * (seen["expand"] > 0))
        d = self.reduce.backward(d * (seen["reduce"] > 0))
        through_sum = d * (seen["sum"] > 0)
        d = self.pointwise.backward(through_sum)
        d = self.depthwise.backward(d * (seen["depthwise"] > 0)) + through_sum
        return self.stem.backward(d * ((seen["stem"] > 0) & (seen["stem"] < 6)))


def cross_entropy(logits: Floats, labels: npt.NDArray[np.intp]) -> tuple[float, Floats]:
    """Return the mean loss and its gradient with respect to the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(logs)
    gradient[rows, labels] -= 1
    return float(-logs[rows, labels].mean()), gradient / len(labels)


class Adam:
    """The optimizer: Adam with decoupled weight decay."""

    def __init__(self, layers: tuple[Layer, ...], decay: float = 1e-4) -> None:
        self.layers, self.decay, self.steps = layers, decay, 0
        self.moments: list[tuple[Floats, Floats]] = []

    def step(self, rate: float) -> None:
        """Change all weights by one step with this rate."""
        pairs = [pair for layer in self.layers for pair in layer.parameters()]
        if not self.moments:
            self.moments = [(np.zeros_like(v), np.zeros_like(v)) for v, _ in pairs]
        self.steps += 1
        for (values, gradient), (first, second) in zip(pairs, self.moments, strict=True):
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            mean = first / (1 - 0.9**self.steps)
            spread = np.sqrt(second / (1 - 0.999**self.steps))
            values -= rate * (mean / (spread + 1e-8) + self.decay * values)
