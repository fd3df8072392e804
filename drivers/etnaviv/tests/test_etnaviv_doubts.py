"""The warnings of strategy `mesa`, beside which of Mesa's recorded programs do come out wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from teflon.errors import DeviceError, EncodingError, SimulatorFault
from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon_etnaviv import chips
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.mesa.doubts import doubts
from tests.etnaviv.grid import opened
from tests.etnaviv.parity import CHIPS, NAMES, expected_failures, graph_of, recording_of
from tests.paths import needs_shared
from tests.recorded import partitions
from tests.rocket.grid import random_inputs

LUCKY = {"conv_i5_w5_ic1_oc120_s1_valid_u8", "conv_i80_w5_ic1_oc32_s1_same_u8"}
"""Kernels of section 7.2 that Mesa splits over cores so that they come out right."""
OF_VALUES = "B2"
NOT_COMPARED = {"ssdlite_mobiledet_coco_qat_postprocess": {"B12", "B13"}}
"""Whole models that are not in the lists of `ci`; this one reshapes maps that lie in planes."""


def numbers(graphs: list[Graph], chip: str) -> set[str]:
    """The numbers that the warnings about some graphs name."""
    said = [text for g in graphs for op in g.ops for text in doubts(op, g, chips.chip(chip))]
    return {number for text in said for number in re.findall(r"B\d+|7\.2", text)}


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_what_comes_out_wrong_is_doubted_and_nothing_else(chip: str) -> None:
    wrong = expected_failures(chip)
    assert wrong
    for name in NAMES:
        have = numbers(partitions(recording_of(chip, name), graph_of(name)), chip)
        want = wrong.get(name, "").replace("10.2", "B5")
        if want and want != OF_VALUES:
            assert want in have, name
        elif name not in LUCKY:
            assert have == NOT_COMPARED.get(name, set()), name


def test_exact_has_no_doubts() -> None:
    b = Builder("int8")
    x = b.input("x", "i8", (1, 5, 7, 4), 0.02, 0)
    y = b.sub(x, b.input("z", "i8", (1, 5, 7, 4), 0.02, 0), scale=0.05, zero_point=0)
    b.output(y)
    graph = b.build()
    have = {
        strategy: EtnavivDevice("a311d", {"strategy": strategy}).doubts(graph.ops[0], graph)
        for strategy in ("exact", "mesa")
    }
    assert have["exact"] == []
    assert [text.split(" (")[0] for text in have["mesa"]] == [
        "int8 is streamed with a shifted zero point, Mesa's B8", "subtraction adds, Mesa's B9",
    ]  # fmt: skip


def _convolved(b: Builder, x: Value, kernels: int = 8) -> Value:
    random = np.random.default_rng(5)
    weights = random.integers(0, 256, (kernels, 1, 1, x.shape[3])).astype(np.uint8)
    return b.conv2d(
        x, weights, weight_scale=0.01, weight_zero_point=120, scale=0.05, zero_point=110
    )


def _addend_output(b: Builder, x: Value) -> None:
    y = b.logistic(x)
    b.output(y)
    b.output(b.add(b.relu(x, scale=0.02, zero_point=100), y, scale=0.05, zero_point=90))


def _consumed_output(b: Builder, x: Value) -> None:
    y = _convolved(b, x)
    b.output(y)
    b.output(_convolved(b, y))


def _one_row(b: Builder, x: Value) -> None:
    b.output(_convolved(b, b.input("row", "u8", (1, 1, 6, 8), 0.02, 100)))
    b.output(_convolved(b, x))


def _reshaped(b: Builder, x: Value) -> None:
    b.output(b.reshape(_convolved(b, x), (1, 20, 8)))


def _transposed(b: Builder, x: Value) -> None:
    b.output(b.transpose(x, (0, 3, 1, 2)))


def _split_input(b: Builder, x: Value) -> None:
    b.output(b.concatenation(list(reversed(b.split(x, 2, axis=3))), axis=3))


def _twice(b: Builder, x: Value) -> None:
    y = _convolved(b, x)
    b.output(b.concatenation([y, _convolved(b, b.add(y, y, scale=0.1, zero_point=90))], axis=3))


def _padded_rows(b: Builder, x: Value) -> None:
    b.output(b.pad(x, (0, 1, 0, 0), (0, 2, 1, 0)))


def _padded_channels(b: Builder, x: Value) -> None:
    y = b.pad(_convolved(b, x), (0, 0, 0, 2), (0, 0, 0, 0))
    b.output(_convolved(b, y))


def _taken_away(b: Builder, x: Value) -> None:
    b.output(b.sub(_convolved(b, x), _convolved(b, x), scale=0.1, zero_point=90))


Make = Callable[[Builder, Value], None]
SHARED: list[tuple[str, Make]] = [
    ("B9", _taken_away), ("B10", _addend_output), ("B11", _consumed_output), ("B12", _one_row),
    ("B13", _reshaped), ("B13", _transposed), ("B14", _split_input), ("B15", _twice),
    ("B16", _padded_rows), ("B16", _padded_channels),
]  # fmt: skip


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("number", "make"), SHARED, ids=lambda found: getattr(found, "__name__", "")
)
def test_tensors_that_mesa_takes_for_others(chip: str, number: str, make: Make) -> None:
    """Each comes out wrong, or ends in a fault; strategy exact has no doubt and is right."""
    b = Builder(make.__name__)
    make(b, b.input("x", "u8", (1, 4, 5, 8), 0.02, 100))
    graph = b.build()
    inputs = random_inputs(np.random.default_rng(1), graph)
    want = interpreter.run(graph, inputs)
    for strategy in ("mesa", "exact"):
        device = EtnavivDevice(chip, {"strategy": strategy})
        said = {
            found
            for op in graph.ops
            for text in device.doubts(op, graph)
            for found in re.findall(r"B\d+", text)
        }
        right = _difference(chip, device, graph, inputs, want) <= 4
        assert (number in said, right) == (strategy == "mesa", strategy == "exact")


def _difference(
    chip: str, device: EtnavivDevice, graph: Graph, inputs: list[Array], want: list[Array]
) -> float:
    with opened(chip) as context:
        try:
            have = context.invoke(context.load(device.compile(graph)), inputs)
        except (DeviceError, EncodingError, SimulatorFault):
            return math.inf
    pairs = zip(have, want, strict=True)
    return max(float(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)


def test_no_doubt_without_a_cause() -> None:
    """Padding along an axis that the jobs share by one is right where there are several cores."""
    b = Builder("padded")
    x = b.input("x", "u8", (1, 4, 5, 8), 0.02, 100)
    b.output(b.pad(x, (0, 1, 1, 0), (0, 1, 2, 0)))
    graph = b.build()
    said = {
        chip: doubts(graph.ops[0], graph, chips.chip(chip))
        for chip in ("a311d", "s905d3", "imx8mp")
    }
    assert said == {
        "a311d": [],
        "s905d3": ["padding of height is left out, Mesa's B16 (strategy exact computes it right)"],
        "imx8mp": [],
    }
