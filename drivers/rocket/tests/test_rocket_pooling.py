"""Pooling compiled by strategy `exact`: the largest is exact, means are within a step."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import LimitExceeded, UnsupportedOperation
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon.run.load import load
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.lower import lower
from teflon_rocket.exact.windows import Axis, Join, steps
from teflon_rocket.program import RocketProgram
from teflon_rocket.registers import PPU
from teflon_rocket.work import work
from tests.rocket.grid import (
    ACTIVATIONS,
    DEVICE,
    Random,
    blocks,
    channel_count,
    check_block,
    differences,
    explicit,
    image,
    open_simulator,
    pick,
    quantization,
    random_inputs,
)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def kernel_of(random: Random, most: int) -> tuple[int, int]:
    size = int(random.integers(1, most))
    return (size, size) if random.random() < 0.6 else (size, int(random.integers(1, most)))


def maximum(random: Random) -> Graph:
    """MAX_POOL_2D with any padding and any limits."""
    dtype, kernel = pick(random, "u8", "i8"), kernel_of(random, 14)
    b, channels = Builder("maximum"), channel_count(random)
    x = b.input("x", dtype, image(random, kernel, channels), **quantization(random, dtype))
    how = pick(random, "same", "valid", "explicit")
    y = b.max_pool2d(
        x,
        kernel,
        stride=(int(random.integers(1, 5)), int(random.integers(1, 5))),
        padding=explicit(random, kernel) if how == "explicit" else how,
        activation=pick(random, *ACTIVATIONS),
    )
    b.output(y)
    return b.build()


def average(random: Random) -> Graph:
    """AVERAGE_POOL_2D, half of them with padding: kernels of up to six elements then."""
    dtype, how = pick(random, "u8", "i8"), pick(random, "same", "explicit", "valid", "valid")
    kernel = kernel_of(random, 12 if how == "valid" else 7)
    b, channels = Builder("average"), channel_count(random)
    x = b.input("x", dtype, image(random, kernel, channels), **quantization(random, dtype))
    y = b.average_pool2d(
        x,
        kernel,
        stride=(int(random.integers(1, 8)), int(random.integers(1, 8))),
        padding=explicit(random, kernel) if how == "explicit" else how,
        activation=pick(random, *ACTIVATIONS),
    )
    b.output(y)
    return b.build()


def reduced(random: Random) -> Graph:
    """MEAN over rows, columns or both, with another scale."""
    dtype = pick(random, "u8", "i8")
    b, channels = Builder("mean"), channel_count(random)
    size = int(random.integers(1, 20)), int(random.integers(1, 20))
    x = b.input("x", dtype, (1, *size, channels), **quantization(random, dtype))
    how = quantization(random, dtype)
    how["scale"] = x.type.scale * float(random.uniform(0.2, 2))
    axes = pick(random, (1, 2), (1,), (2,))
    b.output(b.mean(x, axes, keep_dims=pick(random, True, False), **how))
    return b.build()


def check_exact(context: RocketContext, graph: Graph, inputs: list[Array]) -> None:
    assert not any(differences(context, graph, inputs).values())


@pytest.mark.parametrize("block", blocks(6))
def test_the_largest(context: RocketContext, block: int) -> None:
    for number in range(20):
        random = np.random.default_rng([block, number])
        graph = maximum(random)
        assert not [r for op in graph.ops for r in DEVICE.unsupported(op, graph)]
        check_exact(context, graph, random_inputs(random, graph))


@pytest.mark.parametrize("block", blocks(4))
def test_means_of_windows(context: RocketContext, block: int) -> None:
    check_block(context, average, block)


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("kernel", [(1, 2), (2, 2), (3, 4), (7, 7), (8, 8), (12, 7)])
def test_means_of_small_windows_are_exact(
    context: RocketContext, dtype: str, kernel: tuple[int, int]
) -> None:
    """Halves go where TFLite's go: up in uint8, away from zero in int8."""
    b = Builder("exact")
    x = b.input("x", dtype, (1, 24, 24, 40), 0.1, 7)
    b.output(b.average_pool2d(x, kernel, padding="valid"))
    graph = b.build()
    random = np.random.default_rng(0)
    few = random.integers(-128, -125, (1, 24, 24, 40)).astype(np.int8).view(x.type.dtype.numpy)
    for inputs in (random_inputs(random, graph), [few], [~few]):
        check_exact(context, graph, inputs)


@pytest.mark.parametrize("block", blocks(4))
def test_means_of_maps(context: RocketContext, block: int) -> None:
    check_block(context, reduced, block)


def pooled(kind: str, size: tuple[int, int, int, int], *window: object, **how: object) -> Graph:
    b = Builder("pool")
    x = b.input("x", "i8", size, scale=0.1, zero_point=3)
    b.output(getattr(b, kind)(x, *window, **how))
    return b.build()


WHOLE = [
    ("average_pool2d", (1, 33, 33, 160), ((33, 33),), {"padding": "valid"}),  # DeepLab
    ("average_pool2d", (1, 25, 5, 64), ((25, 5),), {"padding": "valid", "stride": (25, 5)}),
    ("average_pool2d", (1, 7, 7, 1024), ((7, 7),), {"padding": "valid", "stride": (2, 2)}),
    ("average_pool2d", (1, 8, 8, 64), ((8, 8),), {"padding": "valid", "stride": (8, 8)}),
    ("average_pool2d", (1, 35, 35, 192), ((3, 3),), {}),  # Inception
    ("average_pool2d", (1, 50, 27, 24), ((8, 9),), {"padding": "valid", "stride": (8, 9)}),
    ("average_pool2d", (1, 17, 17, 40), ((5, 5),), {"stride": 2}),
    ("mean", (1, 7, 7, 1280), (), {"scale": 0.03, "zero_point": -100}),
    ("mean", (1, 40, 35, 16), (), {"scale": 0.06, "zero_point": 0, "keep_dims": True}),
    ("max_pool2d", (1, 10, 13, 192), ((13, 13),), {}),  # YOLOX
    ("max_pool2d", (1, 10, 13, 192), ((5, 5),), {}),
    ("max_pool2d", (1, 40, 40, 20), ((40, 40),), {"padding": "valid"}),
    ("max_pool2d", (1, 64, 48, 8), ((3, 2),), {"padding": "valid", "stride": (16, 12)}),
    ("max_pool2d", (2, 3, 3, 5), ((1, 1),), {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "size", "window", "how"), WHOLE)
def test_windows_of_models(
    context: RocketContext,
    kind: str,
    size: tuple[int, int, int, int],
    window: tuple[object, ...],
    how: dict[str, object],
) -> None:
    graph = pooled(kind, size, *window, **how)
    assert not [r for op in graph.ops for r in DEVICE.unsupported(op, graph)]
    for seed in range(3):
        inputs = random_inputs(np.random.default_rng(seed), graph)
        found = differences(context, graph, inputs)
        assert max(found.values()) <= (0 if kind == "max_pool2d" else 1)


@pytest.mark.parametrize("value", [-128, 127])
def test_means_of_extremes(context: RocketContext, value: int) -> None:
    """The largest sums, once by one convolution, once by two."""
    for side in (31, 35):
        graph = pooled("average_pool2d", (1, side, side, 4), (side, side), padding="valid")
        check_exact(context, graph, [np.full((1, side, side, 4), value, np.int8)])


REFUSED = [
    ("average_pool2d", (1, 19, 19, 8), ((11, 11),), {}, "hold 6 to 11 elements, must have"),
    ("average_pool2d", (1, 3, 90, 8), ((1, 89),), {}, "windows of 1x89"),
    ("average_pool2d", (1, 40, 9, 8), ((9, 3),), {"padding": "valid", "stride": (10, 1)},
     "the mean of 9x3 elements of 8 channels, 10x1 apart, needs"),
    ("average_pool2d", (1, 40, 9, 8), ((3, 3),), {"stride": (9, 1)}, "windows of 3x3, 9x1 apart"),
    ("average_pool2d", (1, 37, 37, 8), ((37, 37),), {"padding": "valid"}, "the mean of 37x37"),
    ("average_pool2d", (1, 40, 40, 8), ((35, 35),), {"padding": "valid"}, "the mean of 35x35"),
    ("mean", (1, 40, 40, 8), (), {"scale": 0.04, "zero_point": 0}, "the mean of 40x40"),
    ("mean", (1, 9, 9, 8), ((3,),), {"scale": 0.1, "zero_point": 0}, r"axes are \[3\] of"),
    ("mean", (2, 9, 9, 8), ((0, 1),), {"scale": 0.1, "zero_point": 0}, r"axes are \[0, 1\] of"),
    ("max_pool2d", (1, 80, 80, 8), ((3, 3),), {"stride": (11, 11)}, "windows of 3x3, 11x11 apart"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "size", "window", "how", "text"), REFUSED)
def test_what_is_refused(
    kind: str,
    size: tuple[int, int, int, int],
    window: tuple[object, ...],
    how: dict[str, object],
    text: str,
) -> None:
    graph = pooled(kind, size, *window, **how)
    (reason,) = DEVICE.unsupported(graph.ops[0], graph)
    assert re.search(text, reason), reason
    with pytest.raises((UnsupportedOperation, LimitExceeded)):
        DEVICE.compile(graph)


# The plan ---------------------------------------------------------------------------------------


def shifted(axis: Axis, x: Array) -> Array:
    """What the steps along an axis make of [size], by their own description."""
    way = steps(axis, RK3588, 1)
    assert way is not None
    maps = [x]
    for step in way:
        source, before = maps[-step.back], maps[-1]
        padded = np.pad(source, (step.before, step.after), constant_values=-128)
        moved = np.array([padded[n * step.stride + step.tap] for n in range(step.out)])
        second = {Join.NONE: moved, Join.SELF: source, Join.BEFORE: before}[step.join]
        maps.append(np.maximum(moved, second))
        for n in range(step.out):  # each window holds an element of the map
            first = n * step.stride - step.before
            assert max(first, 0) < min(first + step.kernel, step.size), (axis, step)
    return maps[-1]


@settings(max_examples=300)
@given(st.data())
def test_steps_make_the_largest_of_each_window(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    kernel = data.draw(st.integers(1, 60))
    stride = data.draw(st.sampled_from([1, 1, 2, 3, 7, 8, 12]))
    before = data.draw(st.integers(0, min(kernel - 1, 15)))
    after = data.draw(st.integers(0, kernel - 1))
    room = size + before + after - kernel
    if room < 0:
        return
    axis = Axis(size, room // stride + 1, kernel, stride, before)
    if steps(axis, RK3588, 1) is None:
        assert kernel > RK3588.max_kernel or stride > RK3588.max_stride
        return
    x = np.random.default_rng(size).integers(-128, 128, size)
    padded = np.pad(x, (before, after), constant_values=-128)
    wanted = [padded[n * stride : n * stride + kernel].max() for n in range(axis.out)]
    np.testing.assert_array_equal(shifted(axis, x), wanted)


def test_a_few_steps_are_enough() -> None:
    def count(*axis: int) -> int:
        way = steps(Axis(*axis), RK3588, 4096)
        assert way is not None
        return len(way)

    assert count(40, 40, 3, 1, 1) == 2
    assert count(40, 40, 5, 1, 2) == 4
    assert count(40, 20, 2, 2, 0) == 2
    assert count(40, 1, 40, 1, 0) == 7  # six times twice as much, then the first element


@pytest.mark.parametrize("kind", ["max_pool2d", "average_pool2d"])
def test_no_task_runs_on_the_ppu(kind: str) -> None:
    """The kernel waits for the DPU's interrupts only."""
    graph = pooled(kind, (1, 12, 12, 40), (3, 3), padding="valid")
    assert all(PPU not in op.units for op in lower(graph, RK3588).operations)


def test_no_job_takes_too_long() -> None:
    """The kernel ends a job after half a second; the array works for pooling although the model
    multiplies nothing.
    """
    program = DEVICE.compile(pooled("max_pool2d", (1, 512, 640, 64), (13, 13), padding="valid"))
    assert len(program.jobs) > 1
    assert sum(len(job.tasks) for job in program.jobs) < 1000
    worst = max(sum(work(words, RK3588, "").cycles for words in lists) for lists in jobs(program))
    assert worst / RK3588.clock_hz < 0.2


def jobs(program: RocketProgram) -> Iterator[list[list[int]]]:
    """The command lists of each job."""
    for job in program.jobs:
        found = []
        for task in job.tasks:
            data = program.buffers[task.buffer].data
            assert data is not None
            found.append(np.frombuffer(data, "<u8", task.count, task.offset).tolist())
        yield found


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize(
    ("kind", "kernel", "how"),
    [
        ("max_pool2d", 3, {"stride": 2}),
        ("max_pool2d", 5, {}),
        ("average_pool2d", 3, {}),
        ("average_pool2d", 2, {"stride": 2, "padding": "valid"}),
    ],
)
def test_several_cores(mode: str, kind: str, kernel: int, how: dict[str, object]) -> None:
    """Cut into rows or not, results have the same bits."""
    random = np.random.default_rng(0)
    b = Builder("net")
    x = b.input("x", "i8", (1, 64, 48, 16), 0.05, 3)
    weights = random.integers(-127, 128, (32, 3, 3, 16), np.int8)
    y = b.conv2d(x, weights, weight_scale=0.01, scale=1.0, zero_point=0)
    y = getattr(b, kind)(y, kernel, **how)
    weights = random.integers(-127, 128, (32, 3, 3, 32), np.int8)
    b.output(b.conv2d(y, weights, weight_scale=0.01, scale=60.0, zero_point=0, name="y"))
    graph, image_ = b.build(), random.integers(-128, 128, (1, 64, 48, 16), np.int8)
    with load(graph, "sim:rk3588") as one:
        wanted = one(image_)
    with load(graph, "sim:rk3588", cores=3, mode=mode) as several:
        found = several(image_)
    np.testing.assert_array_equal(found["y"], wanted["y"])
