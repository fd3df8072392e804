# Ref: docs/hardware/rocket_vendor.md §0.11 (concatenation, slices)
"""What is written or read where it lies needs no copy, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.ir.builder import Builder
from teflon.ir.graph import Value
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.spills import spilled
from teflon_rocket.operations.convolution import Convolution
from tests.paths import MODELS as MODEL_FOLDER
from tests.paths import needs_shared
from tests.rocket.grid import DEVICE, open_simulator
from tests.rocket.moved import (
    Make,
    convolved,
    difference,
    graph_of,
    image,
    operations,
    overwritten,
    results,
)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def joined(channels: tuple[int, ...]) -> Make:
    """Convolutions of one input beside each other, and a last one of all."""

    def make(b: Builder) -> None:
        x = image(b, (1, 5, 7, 24))
        parts = [convolved(b, x, count, seed) for seed, count in enumerate(channels)]
        whole = b.concatenation(parts, axis=3)
        b.output(convolved(b, whole, 8, 99, 3))

    return make


def split(b: Builder) -> None:
    x = convolved(b, image(b, (1, 5, 7, 24)), 64, 0)
    for number, part in enumerate(b.split(x, 2, axis=3)):
        b.output(convolved(b, part, 8, number, 3))


def rows(b: Builder) -> None:
    """A window that moves over rows, as models of sound have it."""
    old, new = image(b, (1, 4, 1, 60)), image(b, (1, 1, 1, 60), name="y")
    whole = b.concatenation([convolved(b, old, 60, 0), convolved(b, new, 60, 1)], axis=1)
    b.output(convolved(b, whole, 60, 2))
    later = b.strided_slice(whole, begin=(0, 1, 0, 0), end=(1, 5, 1, 60), strides=(1, 1, 1, 1))
    b.output(convolved(b, later, 60, 3))


def flattened(b: Builder) -> None:
    x = convolved(b, image(b, (1, 1, 1, 64)), 40, 0)
    flat = b.reshape(x, (1, 40))
    b.output(b.fully_connected(flat, np.ones((8, 40), np.int8), weight_scale=0.02))


def nested(b: Builder) -> None:
    """A concatenation of concatenations, each in the next one's place."""
    x = image(b, (1, 5, 7, 32))
    inner = b.concatenation([convolved(b, x, 32, 0), convolved(b, x, 32, 1)], axis=3)
    b.output(convolved(b, b.concatenation([inner, convolved(b, x, 32, 2)], axis=3), 8, 9))


IN_PLACE: dict[str, tuple[Make, int]] = {
    "32 and 64 channels": (joined((32, 64)), 3),
    "what is written behind is overwritten": (joined((48, 16, 32)), 4),
    "one convolution gathers": (joined((24, 24)), 4),
    "halves": (split, 3),
    "rows": (rows, 4),
    "flat": (flattened, 2),
    "nested": (nested, 4),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_no_copies(context: RocketContext, name: str) -> None:
    make, count = IN_PLACE[name]
    graph = graph_of(make)
    found = operations(graph)
    assert len(found) == count
    assert all(isinstance(operation, Convolution) for operation in found)
    assert difference(context, graph) <= 1


def test_order_of_writing(context: RocketContext) -> None:
    """What the first part's convolution writes behind it must not hit a part that is there."""

    def make(b: Builder) -> None:
        x = image(b, (1, 5, 7, 24))
        late, early = convolved(b, x, 48, 1), convolved(b, x, 16, 2)
        again = convolved(b, early, 48, 3)
        b.output(convolved(b, b.concatenation([again, early, late], axis=3), 8, 4))

    assert len(operations(graph_of(make))) == 5  # `early` is copied
    assert difference(context, graph_of(make)) <= 1


KINDS = ["conv", "join", "split", "rows", "flat", "add"]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 99)),
    min_size=2, max_size=9,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 10**6))
def test_any_graph(context: RocketContext, steps: list[tuple[str, int]], seed: int) -> None:
    """Values that lie in one another in any way keep their elements until they are read: the last
    ones are the same whether or not the device hands out all others.
    """

    def last(b: Builder) -> list[Value]:
        values = [image(b, (1, 4, 6, 32))]
        for number, (kind, choice) in enumerate(steps):
            values += step(b, values, kind, choice, number)
        b.output(values[-1])
        b.output(convolved(b, values[len(values) // 2], 8, 7))
        return values[1:-1]

    def every(b: Builder) -> None:
        for value in last(b):
            b.output(value)

    assert overwritten(operations(graph_of(last))) == []
    found = [results(context, graph_of(make), seed) for make in (last, every)]
    if not any(kind == "add" for kind, _ in steps):  # a sum is rounded once or twice
        for one, other in zip(*found, strict=False):
            np.testing.assert_array_equal(one, other)
    assert difference(context, graph_of(every), seed) <= 40  # of convolutions in a row


def step(b: Builder, values: list[Value], kind: str, choice: int, number: int) -> list[Value]:
    """Add an operation on some of the values; all have rank 4."""
    x, y = values[choice % len(values)], values[choice * 7 % len(values)]
    if kind == "join" and x.shape[:3] == y.shape[:3] and x.shape[3] + y.shape[3] < 200:
        return [b.concatenation([x, y], axis=3)]
    if kind == "split" and x.shape[3] % 2 == 0:
        return list(b.split(x, 2, axis=3))
    if kind == "rows" and x.shape[1] > 1:
        size = (1, x.shape[1] - 1, *x.shape[2:])
        return [b.slice(x, begin=(0, choice % 2, 0, 0), size=size)]
    if kind == "add" and x.shape == y.shape:
        made = convolved(b, x, x.shape[3], number)
        return [b.add(made, y, scale=0.1, zero_point=3)]
    if kind == "flat":
        return [b.reshape(x, (1, 1, x.shape[1] * x.shape[2], x.shape[3]))]
    return [convolved(b, x, (16, 24, 48, 64)[choice % 4], number)]


MODELS = [
    "yolox", "ssdlite_mobiledet_coco_qat_postprocess", "public/split_concat", "public/alexa",
    "public/movenet_single_pose_lightning_ptq", "public/deeplabv3_mnv2_dm05_pascal_quant",
]  # fmt: skip


@needs_shared
@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_a_model_is_overwritten(name: str) -> None:
    assert MODEL_FOLDER is not None
    plan = plan_model(read_graph(MODEL_FOLDER / f"{name}.tflite"), DEVICE)
    for partition in plan.partitions:
        if partition.device == 0:
            assert overwritten(operations(partition.graph)) == []


def test_what_is_overwritten_is_seen() -> None:
    """A convolution of 16 channels writes 32: what lies behind must come later."""
    found = operations(graph_of(joined((16, 32))))
    first, second, last = found
    assert overwritten(found) == []
    assert overwritten([second, first, last]) == [first.name]


SIZES = [
    (width, inside, outside, size, depthwise)
    for width, inside, outside, size in [
        (7, 24, 16, 1), (7, 24, 48, 3), (40, 64, 96, 3), (40, 100, 32, 5), (13, 512, 64, 3),
        (80, 512, 96, 3), (200, 300, 96, 1), (7, 40, 112, 7),
    ]
    for depthwise in (False, True)
]  # fmt: skip


@pytest.mark.parametrize("case", SIZES, ids=str)
def test_nothing_spills_further(case: tuple[int, int, int, int, bool]) -> None:
    """No operation writes more surfaces behind its own than places count with."""
    width, inside, outside, size, depthwise = case

    def make(b: Builder) -> None:
        x = image(b, (1, 9, width, inside))
        if depthwise:
            data = np.ones((1, size, size, inside), np.int8)
            b.output(b.depthwise_conv2d(x, data, weight_scale=0.02, padding="same"))
        else:
            data = np.ones((outside, size, size, inside), np.int8)
            b.output(b.conv2d(x, data, weight_scale=0.02, padding="same", scale=50.0))

    graph = graph_of(make)
    (value,) = graph.outputs
    own = -(-value.shape[3] // 16)
    ends = [
        feature.start // feature.surface_bytes + operation.surfaces(feature)
        for operation in operations(graph)
        for feature in operation.writes
        if feature.root.value is value
    ]
    assert max(ends) - own <= spilled(graph, {}, value)
