"""The cases of the kit: convolutions, matrix products, wirings, and those of `grid_others`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_common.conformance.case import FORMS, Case, dtype_of, named, size
from teflon_common.conformance.graphs import Random, convolved, quantization, result, weights
from teflon_common.conformance.wirings import WIRINGS, Net, Shape

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The attributes of a convolution; the case's name has those that differ from the default."""

    image: tuple[int, int, int]  # height, width, channels
    out: int  # output channels; for a depthwise convolution the multiplier
    kernel: Pair = 3
    stride: Pair = 1
    padding: str | tuple[int, int, int, int] = "same"
    dilation: Pair = 1
    activation: str = "none"
    batch: int = 1
    bias: bool = True
    zero: int | None = None  # the input's zero point: 0 the lowest value of its type, 1 the highest

    @property
    def title(self) -> list[str]:
        """The parts of the case's name, without the form."""
        padding = self.padding if isinstance(self.padding, str) else f"pad={size(self.padding)}"
        return [
            f"in={size(self.image)}", f"out={self.out}", f"k={size(self.kernel)}",
            f"s={size(self.stride)}", padding, *self._rare(),
        ]  # fmt: skip

    def _rare(self) -> list[str]:
        return [
            "" if self.dilation == 1 else f"d={size(self.dilation)}",
            "" if self.activation == "none" else self.activation,
            "" if self.batch == 1 else f"n={self.batch}",
            "" if self.bias else "nobias",
            "" if self.zero is None else ("lowest-zero", "highest-zero")[self.zero],
        ]


def _graph(window: Window, form: str, depthwise: bool, random: Random) -> Graph:
    dtype, (height, wide) = dtype_of(form), _pair(window.kernel)
    channels = window.image[2]
    how = quantization(random, dtype)
    if window.zero is not None:
        how["zero_point"] = ((0, 255) if dtype == "u8" else (-128, 127))[window.zero]
    shape = (1, height, wide, channels * window.out)
    if not depthwise:
        shape = (window.out, height, wide, channels)
    b = Builder("depthwise" if depthwise else "direct")
    x = b.input("x", dtype, (window.batch, *window.image), **how)
    y = convolved(
        b, random, x, shape, depthwise, form == "i8-axis", window.bias,
        stride=window.stride, padding=window.padding, dilation=window.dilation,
        activation=window.activation,
    )  # fmt: skip
    b.output(y)
    return b.build()


def _pair(numbers: Pair) -> tuple[int, int]:
    return (numbers, numbers) if isinstance(numbers, int) else numbers


CHANNELS = ((1, 1), (1, 32), (3, 24), (32, 1), (32, 32), (120, 17))
"""Input and output channels."""

_PLAIN = Window((8, 8, 16), 24)
_RARE: tuple[dict[str, Any], ...] = (
    {"stride": (1, 2)}, {"stride": (2, 1)}, {"stride": 3}, {"kernel": (3, 5)}, {"kernel": (5, 1)},
    {"kernel": (1, 7)}, {"kernel": 2}, {"kernel": 7}, {"padding": (0, 1, 0, 1), "stride": 2},
    {"padding": (2, 0, 1, 1)}, {"dilation": 2}, {"dilation": (2, 3)}, {"activation": "relu"},
    {"activation": "relu6"}, {"activation": "relu_n1_to_1"}, {"batch": 2}, {"bias": False},
    {"zero": 0}, {"zero": 1}, {"image": (3, 3, 16)}, {"image": (8, 5, 16), "stride": 2},
    {"image": (3, 9, 33)}, {"image": (5, 5, 16), "kernel": 5, "padding": "valid"},
    {"image": (80, 80, 32), "stride": 2}, {"image": (40, 60, 3), "kernel": 5, "stride": 2},
)  # fmt: skip


def _direct() -> Iterator[Window]:
    for kernel, (inside, outside), stride, padding in itertools.product(
        (1, 3, 5), CHANNELS, (1, 2), ("same", "valid")
    ):
        yield Window((8, 8, inside), outside, kernel, stride, padding)
    yield from (replace(_PLAIN, **changes) for changes in _RARE)
    yield Window((5, 5, 32), 300, 1)
    yield Window((7, 7, 300), 40, 1)
    yield Window((112, 112, 3), 32, 3, 2)
    yield Window((112, 112, 120), 16, 5, 2)


def _depthwise() -> Iterator[Window]:
    for kernel, channels, stride, padding in itertools.product(
        (3, 5), (1, 3, 32, 33, 120), (1, 2), ("same", "valid")
    ):
        yield Window((8, 8, channels), 1, kernel, stride, padding)
    yield from (replace(_PLAIN, **{"out": 1, **changes}) for changes in _RARE)
    yield Window((8, 8, 8), 2)
    yield Window((8, 8, 1), 8)
    yield Window((112, 112, 32), 1)


def _convolutions(
    word: str, op: str, windows: Callable[[], Iterator[Window]], depthwise: bool
) -> Iterator[Case]:
    for form, window in itertools.product(FORMS, windows()):
        make = partial(_graph, window, form, depthwise)
        yield Case(named(word, *window.title, form), op, form, make)


MATRICES: tuple[tuple[tuple[int, ...], int, bool], ...] = (
    ((1, 33), 17, False), ((1, 1024), 100, False), ((3, 40), 8, False), ((1, 1, 1, 64), 10, False),
    ((1, 3, 5, 17), 12, False), ((1, 4, 4, 2), 5, False), ((2, 3, 16), 9, True), ((1, 16), 1, True),
)  # fmt: skip
"""Input, output channels, whether the input's leading axes are kept."""


def _matrix(
    shape: tuple[int, ...], out: int, keep: bool, form: str, random: Random
) -> Graph:  # fmt: skip
    dtype, b = dtype_of(form), Builder("matrix")
    terms = shape[-1] if keep or len(shape) == 2 else int(np.prod(shape[1:]))
    x = b.input("x", dtype, shape, **quantization(random, dtype))
    data, scaled = weights(random, dtype, (out, terms), terms, out if form == "i8-axis" else 0)
    how = result(random, x, scaled, terms)
    bias = random.integers(-20000, 20000, out, np.int32)
    b.output(b.fully_connected(x, data, bias, keep_num_dims=keep, **scaled, **how))
    return b.build()


def _matrices() -> Iterator[Case]:
    for form, (shape, out, keep) in itertools.product(FORMS, MATRICES):
        name = named("fully_connected", f"in={size(shape)}", f"out={out}", "keep" * keep, form)
        yield Case(name, "FULLY_CONNECTED", form, partial(_matrix, shape, out, keep, form))


SHAPES: tuple[Shape, ...] = ((1, 8, 8, 16), (1, 5, 3, 33))


def _wirings() -> Iterator[Case]:
    for form, wiring, shape in itertools.product(("u8", "i8"), WIRINGS, SHAPES):
        word = wiring.__name__.replace("_", "-")
        name = named("wiring", word, f"in={size(shape[1:])}", form)
        yield Case(name, "wirings", form, partial(_wiring, wiring, shape, form))


def _wiring(wiring: Callable[[Net], Graph], shape: Shape, form: str, random: Random) -> Graph:
    return wiring(Net(random, wiring.__name__, form, shape))


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases; their names are unique."""
    from teflon_common.conformance.grid_others import others

    return (
        *_convolutions("conv2d", "CONV_2D", _direct, False),
        *_convolutions("depthwise_conv2d", "DEPTHWISE_CONV_2D", _depthwise, True),
        *_matrices(),
        *others(),
        *_wirings(),
    )
