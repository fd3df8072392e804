"""Weights with a scale for each output channel: groups, roundings, orders, whole models."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.compile.partition import plan_notes
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.inspect.compare import compare_plan
from teflon.ir import interpreter
from teflon.ir.graph import Graph, Op
from teflon.pipe import Context
from teflon_etnaviv.chips import NAMES
from teflon_etnaviv.chips import chip as chip_of
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.exact import strategy
from teflon_etnaviv.exact.grouping import choice, cutting
from teflon_etnaviv.exact.grouping.choice import Price, best, price_of
from teflon_etnaviv.exact.grouping.equalise import equalised
from teflon_etnaviv.exact.grouping.expected import Expected, Spread, cut_off, unknown
from teflon_etnaviv.exact.grouping.kernels import Kernels, kernels_of
from teflon_etnaviv.exact.grouping.modes import MODES as BY_NAME
from teflon_etnaviv.exact.grouping.rounding import rounded
from tests.etnaviv.perchannel import (
    CHIPS,
    MODES,
    any_layer,
    layer,
    network,
    one_by_one,
    opened,
    ran,
    random_inputs,
    shaped,
    start,
)
from tests.paths import MODELS, needs_shared

PRICE = Price(0.02, 0.0005, 0.0004, False, 6, 1e4)
ROWS = st.lists(st.floats(1e-5, 1e-1), min_size=1, max_size=40).map(np.array)


@pytest.fixture(scope="module", params=list(itertools.product(CHIPS, MODES)), ids="-".join)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(*request.param) as found:
        yield found


@given(ROWS, st.floats(1, 100))
def test_segments_are_as_few_as_their_ratio_lets(scales: np.ndarray, ratio: float) -> None:
    parts = cutting.segments(scales, ratio)
    assert np.array_equal(np.concatenate([scales[part] for part in parts]), scales)
    assert all(scales[p].max() <= scales[p].min() * ratio for p in parts)
    for one, other in itertools.pairwise(parts):
        both = scales[one.start : other.start + 1]
        assert both.max() > both.min() * ratio


@given(ROWS, ROWS)
def test_an_order_for_two_layers_keeps_the_first_ones_groups(
    scales: np.ndarray, others: np.ndarray
) -> None:
    others = np.resize(others, len(scales))
    parts = cutting.segments(np.sort(scales), 2)
    order = cutting.for_both(scales, parts, others)
    assert sorted(order) == list(range(len(scales)))
    for number, part in enumerate(parts):
        assert sorted(scales[order[part]]) == list(np.sort(scales)[part])
        turned = others[order[part]] * (-1 if number % 2 else 1)
        assert (np.diff(turned) >= 0).all()


@given(st.lists(st.floats(1e-4, 1e-1), min_size=1, max_size=9).map(np.array), st.floats(1, 1e8))
def test_the_cheapest_groups(scales: np.ndarray, noise: float) -> None:
    """No other cut of a few channels is cheaper, unless it parts what is all but equal."""
    price = Price(0.02, 0.0005, 0.0004, False, 6, noise)
    found = price.cost(scales, best(price, scales))
    grains = [part.start for part in cutting.segments(scales, 2 ** (1 / 8))][1:]
    for count in range(len(grains) + 1):
        for cuts in itertools.combinations(grains, count):
            ends = [0, *cuts, len(scales)]
            parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
            assert found <= price.cost(scales, parts) * (1 + 1e-9)


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.floats(0.05, 1))
def test_errors_of_a_kernel_add_up_to_nothing(size: int, seed: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    data = random.integers(1, 256, (3, size)).astype(np.uint8)
    data[0, 0] = 1  # this kernel uses the whole range
    kernels = Kernels(data, 128, np.array([1, factor, factor]), np.zeros(3, np.int32))
    found = rounded(kernels, np.arange(3))
    wanted = (data - 128.0) * kernels.scales[:, None] / found.scale
    have = found.bytes_.astype(float) - found.zero
    inside = (np.abs(wanted) < 120).all(axis=1)
    assert (np.abs(have - wanted) <= 1).all()
    assert (np.abs((have - wanted).sum(axis=1)[inside]) <= 0.51).all()
    assert np.allclose(found.noise, ((have - wanted) ** 2).sum(axis=1), atol=1e-2)
    assert np.allclose(found.signal, (wanted**2).sum(axis=1), rtol=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_one_scale_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (4, 9)).astype(np.uint8)
    bias = random.integers(-(2**31), 2**31, 4).astype(np.int32)
    found = rounded(Kernels(data, 130, np.full(4, 0.25), bias), np.arange(4))
    assert np.array_equal(found.bytes_, data)
    assert np.array_equal(found.bias, bias)
    assert (found.zero, found.scale) == (130, 0.25)
    assert not found.noise.any()


@given(st.floats(-50, 50), st.floats(0.1, 60), st.floats(-60, 0), st.floats(0, 60))
def test_spread_behind_a_clamp(mean: float, deviation: float, low: float, high: float) -> None:
    """Against a sample of 20000: the formula for a normal distribution that is cut off."""
    sample = np.random.default_rng(1).normal(mean, deviation, 20000).clip(low, high)
    found = cut_off(Spread(np.array([mean]), np.array([deviation**2])), low, high)
    assert abs(found.mean[0] - sample.mean()) < 0.03 * deviation + 0.02
    assert abs(np.sqrt(found.variance[0]) - sample.std()) < 0.05 * deviation + 0.05


def test_expected_means_are_near_those_of_noise() -> None:
    """A convolution, a depthwise one and another one on what the guess takes inputs to be."""
    random = np.random.default_rng(2)
    b, x = start(random, "means", (1, 24, 24, 16))
    y = layer(b, random, x, (24, 1, 1, 16), activation="relu")
    z = layer(b, random, y, (1, 3, 3, 24), "depthwise_conv2d", activation="relu")
    b.output(y, z, layer(b, random, z, (40, 1, 1, 24), activation="relu"))
    graph = b.build()
    zero = x.type.zero_point
    guess = unknown(x)
    data = random.normal(guess.mean + zero, np.sqrt(guess.variance), x.shape)
    results = interpreter.run(graph, [data.round().clip(-128, 127).astype(np.int8)])
    expected = Expected(graph)
    for value, result in zip(graph.outputs, results, strict=True):
        have = expected.of(value).mean
        want = result.reshape(-1, value.shape[3]).mean(axis=0) - value.type.zero_point
        assert np.corrcoef(have, want)[0, 1] > 0.9
        assert abs(have.mean() - want.mean()) < 10


def _pair(random: np.random.Generator, gain: float) -> Graph:
    """A layer, and a depthwise one that alone reads it."""
    b, x = start(random, "pair", (1, 6, 6, 8))
    y = layer(b, random, x, (12, 1, 1, 8), gain=gain, activation="relu")
    b.output(layer(b, random, y, (1, 3, 3, 12), "depthwise_conv2d", stride=2))
    return b.build()


@pytest.mark.parametrize("seed", range(8))
def test_powers_of_two_move_where_no_clamp_notices(seed: int) -> None:
    """The layers' real numbers are the same; the first one's results stay in their range whatever
    its inputs are.
    """
    graph = _pair(np.random.default_rng(seed), 0.01)
    moved = equalised(graph)
    (one, two), (new, other) = graph.ops, moved.ops
    factors = scales_of(new) / scales_of(one)
    assert (factors > 1).any()
    assert np.array_equal(np.log2(factors), np.rint(np.log2(factors)))
    assert np.allclose(scales_of(other) * factors, scales_of(two), rtol=1e-6)
    assert scales_of(new).max() <= scales_of(one).max() * 1.0001
    before, after = kernels_of(two).bias, kernels_of(other).bias  # type: ignore[arg-type]
    assert np.array_equal(before * factors, after)
    value = one.results[0]
    low, high = (value.type.zero_point, value.type.dtype.range[1])
    for channel in range(12):  # the inputs that drive a channel as far as they can
        data = one.operands[1].data[channel, 0, 0]  # type: ignore[index,union-attr]
        for inputs in (np.where(data > 0, 127, -128), np.where(data > 0, -128, 127)):
            image = np.broadcast_to(inputs.astype(np.int8), (1, 6, 6, 8)).copy()
            alone = moved.subgraph([new])
            plain = graph.subgraph([one])
            have = interpreter.run(alone, [image])[0][..., channel].astype(float) - low
            want = interpreter.run(plain, [image])[0][..., channel].astype(float) - low
            assert (np.abs(have - want * factors[channel]) <= factors[channel]).all()
            assert (have <= high - low).all()


def test_nothing_moves_where_somebody_looks_or_ranges_are_full() -> None:
    random = np.random.default_rng(1)
    full = _pair(random, 50)
    assert equalised(full) is full
    graph = _pair(random, 0.01)
    seen = replace(graph, outputs=(*graph.outputs, graph.ops[0].results[0]), output_names=())
    assert equalised(graph) is not graph
    assert equalised(seen) is seen


def scales_of(op: Op) -> np.ndarray:
    """The scales of a layer's weights."""
    return np.array(op.operands[1].type.quantization.scales)  # type: ignore[union-attr]


def test_biases_keep_their_value_in_32_bits() -> None:
    data = np.full((2, 1), 255, np.uint8)
    bias = np.array([2**28 - 1, -(2**28)], np.int32)
    found = rounded(Kernels(data, 128, np.array([1.0, 0.5]), bias), np.arange(2))
    assert np.abs(found.bias * found.scale - bias * np.array([1, 0.5])).max() <= found.scale


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("block", range(12))
def test_exact_is_within_one_step(chip: str, block: int) -> None:
    wrong = []
    with opened(chip, "exact") as context:
        for number in range(10):
            random = np.random.default_rng([7, block, number])
            graph = (shaped if number > 5 else any_layer)(random)
            assert context.device.unsupported(graph.ops[0], graph) == []
            inputs = random_inputs(random, graph)
            have, want = ran(context, graph, inputs), interpreter.run(graph, inputs)
            step = np.abs(have[0].astype(int) - want[0]).max()
            wrong += [(number, graph.ops[0].title, int(step))] if step > 1 else []
    assert not wrong


_ORDERED = ("depthwise_conv2d", "add", "pad")


@pytest.mark.parametrize("block", range(6))
def test_orders_change_no_bit(
    context: Context, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph in which channels lie in any order, against one operation at a time.

    Groups depend on the order that a depthwise layer finds, and on who needs the channels in their
    own: only in `merged` they do not. What inputs are expected to be depends on the whole graph, so
    here nothing is known of them.
    """
    monkeypatch.setattr(Expected, "of", lambda _self, value: unknown(value))
    monkeypatch.setattr(strategy, "equalised", lambda graph: graph)
    monkeypatch.setattr(choice, "_START", 1e-6)  # so that small layers have groups, too
    merged = context.device.signature().split()[2] == "merged"  # type: ignore[union-attr]
    for number in range(4):
        random = np.random.default_rng([11, block, number])
        graph = network(random)
        if not merged and any(op.mnemonic in _ORDERED for op in graph.ops):
            continue
        inputs = random_inputs(random, graph)
        alone = one_by_one(context, graph, inputs)
        for a, b in zip(ran(context, graph, inputs), alone, strict=True):
            assert np.array_equal(a, b), (block, number)


@pytest.mark.parametrize("chip", CHIPS)
def test_channels_that_nobody_needs_in_order_take_no_job(chip: str) -> None:
    """A convolution, RELU, a convolution: as many jobs as groups, and two that change the layout of
    input and output, one for the table.
    """
    random = np.random.default_rng(5)
    b, x = start(random, "free", (1, 9, 9, 16))
    y = b.relu(layer(b, random, x, (32, 1, 1, 16)))
    b.output(layer(b, random, y, (24, 3, 3, 32)))
    graph = b.build()
    device = EtnavivDevice(chip, {"perchannel": "exact"})
    program = device.compile(graph)
    tables = sum(name == graph.ops[1].where for name in program.launches)
    assert sum(layer.jobs for layer in program.grouped) == len(program.launches) - 2 - tables
    assert all(layer.jobs > 10 for layer in program.grouped)
    assert program.output_ports[0].order


@pytest.mark.parametrize("chip", CHIPS)
def test_modes_differ_in_jobs_and_noise(chip: str) -> None:
    random = np.random.default_rng(6)
    b, x = start(random, "modes", (1, 12, 12, 48))
    b.output(layer(b, random, x, (96, 1, 1, 48), gain=40))
    graph = b.build()
    found = {}
    for mode in MODES:
        program = EtnavivDevice(chip, {"perchannel": mode}).compile(graph)
        (found[mode],) = program.grouped
        assert any("1 layer with a scale for each channel" in line for line in program.remarks)
    assert found["merged"].jobs == 1 < found["balanced"].jobs < found["exact"].jobs
    assert found["merged"].decibels < found["balanced"].decibels < found["exact"].decibels


def test_depthwise_groups_take_less_time_on_v7() -> None:
    """There a group is multiplied with its own planes only."""
    random = np.random.default_rng(8)
    b, x = start(random, "depthwise", (1, 8, 8, 64))
    b.output(layer(b, random, x, (1, 3, 3, 64), "depthwise_conv2d"))
    (op,) = b.build().ops
    price = price_of(op, chip_of("a311d"), 1000)  # type: ignore[arg-type]
    assert price.squared
    assert price.time(np.array([32.0])) < price.time(np.array([64.0])) / 2 + 0.004


@pytest.mark.parametrize("chip", NAMES)
def test_groups_of_chips_without_a_model_of_time(chip: str) -> None:
    random = np.random.default_rng(13)
    b, x = start(random, "chips", (1, 6, 6, 8))
    b.output(layer(b, random, layer(b, random, x, (1, 3, 3, 8), "depthwise_conv2d"), (9, 1, 1, 8)))
    assert len(EtnavivDevice(chip).compile(b.build()).grouped) == 2


def test_weights_with_several_zero_points_are_refused() -> None:
    random = np.random.default_rng(9)
    b, x = start(random, "zeros", (1, 4, 4, 3))
    b.output(layer(b, random, x, (5, 1, 1, 3)))
    graph = b.build()
    kind = graph.ops[0].operands[1].type.quantization  # type: ignore[union-attr]
    object.__setattr__(kind, "zero_points", (0, 1, 0, 0, 0))
    reasons = EtnavivDevice("a311d").unsupported(graph.ops[0], graph)
    assert any("same zero point" in reason for reason in reasons)


WHOLE = {
    "vww_96_int8": (2.5, 14),
    "kws_ref_model": (3.5, 12),
    "tf2_mobilenet_v2_1.0_224_ptq": (2.7, 20),
}
"""Model -> the mean and the largest difference of its layers from the reference, in steps."""


@functools.cache
def _model(name: str) -> Path:
    assert MODELS is not None
    return MODELS / "public" / f"{name}.tflite"


@needs_shared
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("chip", CHIPS)
def test_whole_models_balanced(chip: str, name: str) -> None:
    """Each layer on equal input within a few steps; notes say what became of them."""
    graph = read_graph(_model(name))
    random = np.random.default_rng(3)
    low, high = zip(*(v.type.dtype.range for v in graph.inputs), strict=True)
    inputs = [
        random.integers(a, b + 1, v.shape).astype(v.type.dtype.numpy)
        for v, a, b in zip(graph.inputs, low, high, strict=True)
    ]
    with opened(chip, "balanced") as context:
        plan = plan_model(graph, context.device)
        found = compare_plan(plan, context, inputs)
        steps = [one.steps for one in found.layers]
        assert float(np.mean(steps)) <= WHOLE[name][0]
        assert max(one.drift for one in found.layers[-3:]) <= 90
        assert max(steps) <= WHOLE[name][1]
        assert list(found.notes) == plan_notes(plan, context.device)
        assert any("with a scale for each channel" in note for note in found.notes)


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_mobilenet_v2_has_all_macs_in_few_jobs(chip: str) -> None:
    graph = read_graph(_model("tf2_mobilenet_v2_1.0_224_ptq"))
    device = EtnavivDevice(chip)
    plan = plan_model(graph, device)
    npu = [part for part in plan.partitions if part.device == 0]
    macs = sum(op.macs for part in npu for op in part.graph.ops)
    assert macs >= 0.99 * sum(op.macs for op in graph.ops)
    programs = [device.compile(part.graph) for part in npu]
    assert sum(program.statistics["tasks"] for program in programs) <= 800
    for program in programs:
        again = device.load(program.to_bytes())
        assert again.grouped == program.grouped
        assert again.output_ports == program.output_ports


def test_every_mode_has_a_name() -> None:
    assert list(BY_NAME) == ["balanced", "exact", "merged"]


def test_kernels_of_depthwise_layers_are_rows() -> None:
    random = np.random.default_rng(4)
    b, x = start(random, "rows", (1, 5, 5, 6))
    b.output(layer(b, random, x, (1, 3, 3, 6), "depthwise_conv2d"))
    (op,) = b.build().ops
    found = kernels_of(op)  # type: ignore[arg-type]
    assert found.bytes_.shape == (6, 9)
    assert op.operands[1] is not None
    data = op.operands[1].data
    assert data is not None
    assert np.array_equal(found.bytes_[2], data[0, :, :, 2].reshape(-1).view(np.uint8) ^ 0x80)
