"""Each bug of Mesa's driver that strategy exact puts right, by its number.

Ref: docs/hardware/etnaviv.md section 10.3
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Value
from teflon_etnaviv.device import EtnavivDevice
from tests.etnaviv.grid import check, opened

Random = np.random.Generator
RANDOM = np.random.default_rng(3)


def _conv(b: Builder, x: Value, kernels: int, size: Any = 1, **how: Any) -> Value:
    """A convolution with random weights whose output uses the range."""
    rows, columns = (size, size) if isinstance(size, int) else size
    dtype = x.type.dtype.numpy
    low, high = (0, 256) if dtype == np.uint8 else (-127, 128)
    shape = (kernels, rows, columns, x.shape[3])
    weights = RANDOM.integers(low, high, shape).astype(dtype)
    return b.conv2d(x, weights, None, **_scales(x, rows * columns * x.shape[3]), **how)


def _depthwise(b: Builder, x: Value, size: int, **how: Any) -> Value:
    weights = RANDOM.integers(0, 256, (1, size, size, x.shape[3])).astype(np.uint8)
    return b.depthwise_conv2d(x, weights, None, **_scales(x, size * size), **how)


def _scales(x: Value, terms: int) -> dict[str, Any]:
    unsigned = x.type.dtype.numpy == np.uint8
    scale = x.type.scale * 0.01 * 75 * 75 * float(np.sqrt(terms)) / 50
    zero = 120 if unsigned else 0
    return {"weight_scale": 0.01, "weight_zero_point": zero, "scale": scale, "zero_point": zero}


def _input(b: Builder, *shape: int, dtype: str = "u8", name: str = "x") -> Value:
    return b.input(name, dtype, shape, scale=0.02, zero_point=100 if dtype == "u8" else -10)


def b1_phantom_kernels(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 6, 6, 4), 9, 3))


def b2_addition_bias(b: Builder) -> None:
    x, y = (_input(b, 1, 8, 8, 120, name=n) for n in "xy")
    b.output(b.add(x, y, scale=0.04, zero_point=90))


def b3_pointwise_relu6(b: Builder) -> None:
    x = _input(b, 1, 6, 6, 16)
    weights = RANDOM.integers(0, 256, (24, 1, 1, 16)).astype(np.uint8)
    how: dict[str, Any] = {
        "weight_scale": 0.01,
        "weight_zero_point": 120,
        "scale": 6 / 255,
        "zero_point": 0,
    }
    b.output(b.conv2d(x, weights, None, activation="relu6", **how))


def b4_few_depthwise_channels(b: Builder) -> None:
    b.output(_depthwise(b, _input(b, 1, 8, 8, 4), 3))


def b5_depthwise_stride_2_odd(b: Builder) -> None:
    b.output(_depthwise(b, _input(b, 1, 9, 9, 16), 3, stride=2, padding="same"))


def b6_kernel_that_is_not_square(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 9, 9, 8), 8, (1, 5), padding="same"))


def b7_depthwise_stride_2_of_6(b: Builder) -> None:
    b.output(_depthwise(b, _input(b, 1, 6, 6, 16), 3, stride=2, padding="same"))


def b8_int8(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 8, 8, 16, dtype="i8"), 16, 3, padding="same"))


def b9_subtraction(b: Builder) -> None:
    x, y = (_input(b, 1, 7, 5, 6, name=n) for n in "xy")
    b.output(b.sub(x, y, scale=0.03, zero_point=128))


def b10_outputs_at_an_offset(b: Builder) -> None:
    for part in b.split(_conv(b, _input(b, 1, 5, 5, 8), 16), 2, axis=3):
        b.output(part)


def b11_output_that_is_consumed(b: Builder) -> None:
    y = _conv(b, _input(b, 1, 5, 5, 8), 16)
    b.output(y)
    b.output(_conv(b, y, 3))


def b12_output_of_one_row(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 1, 6, 8), 5))


def b13_reshape_behind_a_convolution(b: Builder) -> None:
    b.output(b.reshape(_conv(b, _input(b, 1, 3, 5, 8), 6), (1, 15, 6)))


def b14_split_of_an_input(b: Builder) -> None:
    x = _input(b, 1, 4, 4, 8)
    first, second = b.split(x, 2, axis=3)
    b.output(b.concatenation([second, first, second], axis=3))


def b15_sum_of_one_tensor(b: Builder) -> None:
    y = _conv(b, _input(b, 1, 5, 5, 8), 8)
    both = b.concatenation([y, y], axis=3)
    b.output(b.add(y, y, scale=y.type.scale * 2, zero_point=120))
    b.output(both)


def b16_padding_of_channels(b: Builder) -> None:
    b.output(b.pad(_input(b, 1, 4, 6, 5), [0, 1, 2, 2], [0, 2, 0, 1]))


def b17_kernel_of_7(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 12, 12, 4), 8, 7, padding="same"))


def b18_stride_2_of_an_odd_oblong(b: Builder) -> None:
    b.output(_conv(b, _input(b, 1, 13, 9, 32), 8, 3, stride=2, padding="same"))


def b19_fully_connected_planes(b: Builder) -> None:
    x = b.input("x", "u8", (1, 1024), scale=0.02, zero_point=100)
    weights = RANDOM.integers(0, 256, (40, 1024)).astype(np.uint8)
    b.output(b.fully_connected(x, weights, **_scales(x, 1024)))


def b23_sum_of_inputs_with_other_users(b: Builder) -> None:
    x, y = (_input(b, 1, 6, 6, 8, name=n) for n in "xy")
    z = b.add(x, y, scale=0.04, zero_point=90)
    b.output(b.add(y, z, scale=0.05, zero_point=70))
    b.output(_conv(b, x, 4))


BUGS: list[Callable[[Builder], None]] = [
    b1_phantom_kernels, b2_addition_bias, b3_pointwise_relu6, b4_few_depthwise_channels,
    b5_depthwise_stride_2_odd, b6_kernel_that_is_not_square, b7_depthwise_stride_2_of_6, b8_int8,
    b9_subtraction, b10_outputs_at_an_offset, b11_output_that_is_consumed, b12_output_of_one_row,
    b13_reshape_behind_a_convolution, b14_split_of_an_input, b15_sum_of_one_tensor,
    b16_padding_of_channels, b17_kernel_of_7, b18_stride_2_of_an_odd_oblong,
    b19_fully_connected_planes, b23_sum_of_inputs_with_other_users,
]  # fmt: skip


@pytest.mark.parametrize("chip", ["a311d", "s905d3", "imx8mp", "vipnano-qi-7131"])
@pytest.mark.parametrize("bug", BUGS, ids=lambda f: f.__name__)
def test_exact_is_right(bug: Callable[[Builder], None], chip: str) -> None:
    """The last chip has six TP cores, more than Mesa's array of jobs holds (B20)."""
    b = Builder(bug.__name__)
    bug(b)
    with opened(chip) as context:
        assert check(context, b.build(), RANDOM) == ""


def test_b20_no_more_jobs_than_there_is_room_for() -> None:
    b = Builder("b20")
    b18_stride_2_of_an_odd_oblong(b)
    program = EtnavivDevice("vipnano-qi-7131").compile(b.build())
    assert sum(program.buffers[i.buffer].role == "tp_config" for i in program.instructions) == 4 + 2


def test_b22_sizes_beyond_the_fields_are_reasons() -> None:
    device = EtnavivDevice("a311d")
    for shape, part in (((1, 1, 9000, 4), "1x9000"), ((1, 2, 2, 20000), "20000 planes")):
        b = Builder("b22")
        b.output(_conv(b, _input(b, *shape), 3))
        graph = b.build()
        assert any(part in reason for reason in device.unsupported(graph.ops[0], graph))
