"""Convolutions with one weight scale for each output channel: bounds, the operand stream, results
against the reference, and the vendor's own registers.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import LimitExceeded
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.types import Array, Quantization
from teflon_common.registers import Register
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.channels import MOST, Scaled, Target, scaled
from teflon_rocket.exact.lower import lower
from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.convolution import Coefs, Convolution
from teflon_rocket.operations.convolution.coefs import pack_stream
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.registers import CNA, CORE, DPU, DPU_RDMA, ENABLE_TARGET, WRITE, split_command
from tests.paths import SHARED
from tests.rocket.grid import DEVICE, check, open_simulator, random_inputs

Random = np.random.Generator
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


# The stream -----------------------------------------------------------------------------------


@given(st.integers(1, 100), st.integers(0, 99))
def test_operand_stream(channels: int, seed: int) -> None:
    """Groups of eight channels: 8 x int32, 8 x int16, 8 x uint16; zeros behind the last."""
    random = np.random.default_rng(seed)
    bias = random.integers(-(2**31), 2**31, channels)
    zero, factor = random.integers(-255, 256, channels), random.integers(0, 2**15, channels)
    padded = -(-channels // 32) * 32
    stream = pack_stream(bias, zero, factor, padded).tobytes()
    assert len(stream) == padded * 8
    for channel in range(padded):
        group, lane = stream[channel // 8 * 64 :], channel % 8
        found = (
            struct.unpack_from("<i", group, lane * 4)[0],
            struct.unpack_from("<h", group, 32 + lane * 2)[0],
            struct.unpack_from("<H", group, 48 + lane * 2)[0],
        )
        real = channel < channels
        assert found == ((bias[channel], zero[channel], factor[channel]) if real else (0, 0, 0))


# The bound ------------------------------------------------------------------------------------


@st.composite
def coefs(draw: st.DrawFn) -> tuple[Coefs, Array]:
    """Weights and biases of a convolution, and what a unit of each channel is worth."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kernels, terms = draw(st.integers(1, 24)), draw(st.integers(1, 300))
    weights = random.integers(0, 256, (kernels, 1, terms), np.uint8)
    zero = random.integers(100, 150, kernels) if draw(st.booleans()) else np.full(kernels, 128)
    units = 0.02 * np.exp(random.uniform(-draw(st.floats(0.1, 14)), 0, kernels))
    units[random.random(kernels) < draw(st.sampled_from([0, 0.2]))] = 1e-11
    bias = np.rint(random.uniform(-1, 1, kernels) * draw(st.floats(0, 1)) * 3 / units)
    bias = np.clip(bias, -(2**30), 2**30).astype(np.int64)
    return Coefs(weights, zero, bias, draw(st.integers(0, 255)), False), units


def modelled(found: Scaled, x: Array) -> Array:
    """What the stages make of inputs [case, term], before the output is rounded, in its steps and
    without its zero point; the order of the stages is that of docs/hardware/rocket_vendor.md.
    """
    coefs, channels, output = found.coefs, found.channels, found.output
    sums = (x - 128) @ (coefs.weights[:, 0].astype(np.int64) - 128).T
    sums += (x - 128).sum(axis=1)[:, None] * channels.compensation
    v = sums + coefs.packed_biases(0).astype(np.int64)
    assert np.abs(v).max() < 2**31
    v = np.rint(v * channels.factor / 2.0**channels.bs.shift)
    assert np.abs(v).max() < 2**31
    if channels.late is not None:
        add = channels.bn.add or 0
        assert isinstance(add, int)
        v = np.rint((v * channels.late + add) / 2.0**channels.bn.shift)
    elif isinstance(channels.bn.add, int):
        v = v + channels.bn.add
    if channels.bn.relu:
        v = np.maximum(v, 0)
    if channels.bn.ceiling is not None:
        v = np.minimum(v, channels.bn.ceiling)
    real: Array = v * (output.scale / 2.0**output.shift) + output.offset + 128
    return real


@settings(max_examples=150, deadline=None)
@given(coefs(), st.sampled_from([(0, 255), (3, 255), (3, 90), (40, 255), (0, 200)]))
def test_errors_stay_within_the_bound(given: tuple[Coefs, Array], clamp: tuple[int, int]) -> None:
    before, units = given
    target = Target(float(units.max() * 60 * np.sqrt(before.weights.shape[2])), 3, clamp)
    found = scaled(before, units, target, "y")
    assert found.error.max() <= MOST
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (40, before.weights.shape[2]))
    x[:2] = [[0], [255]]
    distance = before.weights[:, 0].astype(np.int64) - np.asarray(before.weight_zero)[:, None]
    x[2], x[3] = (distance[0] > 0) * 255, (distance[0] < 0) * 255
    exact = (x - before.input_zero) @ distance.T + before.bias
    wanted = np.clip(exact * (units / target.scale) + target.zero, *clamp)
    have = np.clip(modelled(found, x), *clamp)  # the limits are up to half a step beyond it
    assert (np.abs(have - wanted) <= found.error + 0.01).all()


def test_what_is_out_of_reach_is_refused() -> None:
    """One step of the accumulator is many steps of the output, and the sums are large."""
    weights = np.full((2, 1, 2000), 255, np.uint8)
    large = Coefs(weights, 128, np.zeros(2, np.int64), 128, False)
    with pytest.raises(LimitExceeded, match=r"^y: output channel \d may be .* steps off before"):
        scaled(large, np.array([300.0, 200.0]), Target(1.0, 0, (0, 255)), "y")
    full = Coefs(weights[:, :, :1], 128, np.full(2, 2**31 - 1), 0, False)
    with pytest.raises(LimitExceeded, match=r"^y: accumulator reaches \d+, must fit 32 bits$"):
        scaled(full, np.array([1e-9, 1e-9]), Target(0.01, 0, (0, 255)), "y")


def test_scales_far_apart_are_multiplied_twice() -> None:
    """A factor of few bits is not enough for a channel whose results fill the output's range."""
    weights = np.random.default_rng(0).integers(0, 256, (4, 9, 64), np.uint8)
    bias = np.zeros(4, np.int64)
    units = np.array([1e-2, 1e-2, 1e-2, 1e-2 / 700])
    near = scaled(Coefs(weights, 128, bias, 9, False), units, Target(40.0, 0, (0, 255)), "y")
    far = scaled(Coefs(weights, 128, bias, 9, False), units, Target(0.05, 0, (0, 255)), "y")
    assert near.channels.late is None
    assert near.channels.factor.max() == 1 << 14
    assert far.channels.late is not None
    assert far.channels.factor.min() >= 1 << 14


# Results --------------------------------------------------------------------------------------


def scales(random: Random, channels: int) -> list[float]:
    """Scales of a model, of one with a wide spread, or with dead channels."""
    spread = random.choice([1.0, 3.0, 6.0, 13.0])
    found = np.exp(random.uniform(-3 - spread, -3, channels))
    if random.random() < 0.3:
        found[random.random(channels) < 0.3] = 1e-9
        found[0] = 0.02
    return [float(s) for s in found]


def ending(random: Random, x: float, found: list[float], terms: int) -> dict[str, Any]:
    spread = x * float(np.median(found) if random.random() < 0.3 else max(found))
    return {
        "weight_scale": found,
        "scale": spread * 73 * 73 * float(np.sqrt(terms)) / random.uniform(20, 90),
        "zero_point": int(random.integers(-128, 128)),
        "activation": str(random.choice(ACTIVATIONS)),
    }


def biases(random: Random, x: float, how: dict[str, Any]) -> Array:
    """Biases of a part of the output's range, whatever the channel's scale."""
    units = x * np.array(how["weight_scale"])
    real = random.uniform(-1, 1, len(units)) * how["scale"] * random.choice([0.0, 30.0, 300.0])
    found: Array = np.clip(np.rint(real / units), -(2**30), 2**30).astype(np.int32)
    return found


def windowed(random: Random, depthwise: bool) -> Graph:
    """CONV_2D, also grouped, and DEPTHWISE_CONV_2D with any multiplier."""
    b, scale = Builder("per channel"), float(np.exp(random.uniform(-5, 0)))
    kernel = int(random.integers(1, 8)), int(random.integers(1, 8))
    depth = int(random.choice([1, 3, 8, 17, 40, 48]))
    groups = int(random.choice([1, 1, 2, 4])) if not depthwise else 1
    times = int(random.choice([1, 1, 2, 3]))
    channels = depth * groups
    size = kernel[0] + int(random.integers(0, 6)), kernel[1] + int(random.integers(0, 6))
    zero = int(random.integers(-128, 128))
    x = b.input("x", "i8", (1, *size, channels), scale=scale, zero_point=zero)
    outputs = channels * times if depthwise else groups * int(random.choice([1, 5, 16, 24]))
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, depth)
    weights = random.integers(-127, 128, shape).astype(np.int8)
    terms = kernel[0] * kernel[1] * (1 if depthwise else depth)
    how = ending(random, scale, scales(random, outputs), terms)
    bias = biases(random, scale, how)
    add = b.depthwise_conv2d if depthwise else b.conv2d
    stride = int(random.integers(1, 4))
    b.output(
        add(x, weights, bias, **how, stride=stride, padding=str(random.choice(["same", "valid"])))
    )
    return b.build()


def dense(random: Random) -> Graph:
    """FULLY_CONNECTED on rows and on a whole map."""
    b, scale = Builder("per channel matrix"), float(np.exp(random.uniform(-5, 0)))
    shape = ((1, 33), (3, 40), (1, 1, 1, 64), (1, 3, 5, 17))[int(random.integers(4))]
    terms = int(np.prod(shape[1:]))
    x = b.input("x", "i8", shape, scale=scale, zero_point=int(random.integers(-128, 128)))
    outputs = int(random.choice([1, 4, 16, 33]))
    weights = random.integers(-127, 128, (outputs, terms)).astype(np.int8)
    how = ending(random, scale, scales(random, outputs), terms)
    b.output(b.fully_connected(x, weights, biases(random, scale, how), **how))
    return b.build()


@pytest.mark.parametrize("kind", ["direct", "depthwise", "dense"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_within_a_step_of_the_reference(context: RocketContext, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    graph = dense(random) if kind == "dense" else windowed(random, kind == "depthwise")
    refused = DEVICE.unsupported(graph.ops[0], graph)
    if refused:  # what could not be exact is not taken
        limits = ("output channel", "accumulator reaches", "lower limit is", "kernel of")
        assert refused[0].startswith(limits)
        return
    assert check(context, graph, random) == ""


def ordinary(random: Random) -> Graph:
    """A layer of a usual network: scales within a factor of 30, a ReLU6."""
    b = Builder("ordinary")
    x = b.input("x", "i8", (1, 14, 14, 32), scale=0.0235, zero_point=-128)
    found = [float(s) for s in np.exp(random.uniform(-8.4, -5, 64))]
    weights = random.integers(-127, 128, (64, 3, 3, 32)).astype(np.int8)
    bias = random.integers(-3000, 3000, 64).astype(np.int32)
    b.output(b.conv2d(x, weights, bias, weight_scale=found, scale=0.0235, zero_point=-128,
                      activation="relu6", padding="same"))  # fmt: skip
    return b.build()


def test_nearly_all_results_are_the_reference_s(context: RocketContext) -> None:
    wrong = total = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        graph = ordinary(random)
        (x,) = random_inputs(random, graph)
        with closing(context.load(DEVICE.compile(graph))) as loaded:
            have = context.invoke(loaded, [x])[0]
        op = graph.ops[0]
        want = op.evaluate(x, *(v.data for v in op.operands[1:] if v is not None))[0]
        wrong, total = wrong + int((have != want).sum()), total + have.size
    assert 0 < wrong < total / 100


def test_asymmetric_uint8(context: RocketContext) -> None:
    """Zero points of their own: the reference has no such kernel, this is the definition."""
    random = np.random.default_rng(5)
    b = Builder("asymmetric")
    x = b.input("x", "u8", (1, 9, 8, 20), scale=0.03, zero_point=90)
    data = random.integers(0, 256, (24, 3, 3, 20), np.uint8)
    units = np.exp(random.uniform(-7, -5, 24)).astype(np.float32)
    zeros = random.integers(100, 150, 24)
    how = Quantization(tuple(map(float, units)), tuple(map(int, zeros)), 0)
    w = b.constant(data)
    w = dataclasses.replace(w, type=dataclasses.replace(w.type, quantization=how))
    b.output(b.conv2d(x, w, None, padding="valid", scale=0.15, zero_point=77))
    graph = b.build()
    (image,) = random_inputs(random, graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        have = context.invoke(loaded, [image])[0]
    windows = np.lib.stride_tricks.sliding_window_view(image[0].astype(int) - 90, (3, 3), (0, 1))
    sums = np.einsum("yxcij,oijc->yxo", windows, data.astype(int) - zeros[:, None, None, None])
    want = np.clip(np.rint(sums * (0.03 * units.astype(float) / 0.15)) + 77, 0, 255)
    assert np.abs(have[0].astype(int) - want).max() <= 1
    assert (have[0] == want).mean() > 0.99


# The vendor's registers -----------------------------------------------------------------------

FOLDER = SHARED / "vendor" / "rocket" if SHARED else None
UNITS = (CNA, CORE, DPU, DPU_RDMA)
GRAINS = "CNA.CONV_CON2"
"""Rows to buffer before the convolution starts: Mesa's number, which no result depends on."""
SAME: dict[str, set[str]] = {
    "none": {GRAINS},
    "k1": {GRAINS},
    "rectk": {GRAINS},
    "odd": {GRAINS},
    "group4": {GRAINS},
    "dil2": {GRAINS},
    "dil2dw": {GRAINS},
    "dwc24": {GRAINS},
    "dw40": {GRAINS},
    "dwc48": {GRAINS},
    # Of more than 64 channels the vendor counts those of the last 64, Mesa all of them.
    "dw72": {GRAINS, "CNA.DATA_SIZE1"},
    "dwc88": {GRAINS, "CNA.DATA_SIZE1"},
    "dw100": {GRAINS, "CNA.DATA_SIZE1"},
    "dwc112": {GRAINS, "CNA.DATA_SIZE1"},
    # The padded value is given twice, for odd and even channels.
    "kc3_17_3_12": {GRAINS, "CNA.PAD_CON1"},
    "kc3_40_33_12": {GRAINS, "CNA.PAD_CON1"},
    # The vendor gives most banks to the features.
    "deconv": {GRAINS, "CNA.PAD_CON1", "CNA.CBUF_CON0"},
    "deconv4": {GRAINS, "CNA.PAD_CON1", "CNA.CBUF_CON0"},
}


@pytest.mark.skipif(FOLDER is None, reason="no shared files")
@pytest.mark.parametrize("name", SAME)
def test_the_vendor_s_program_of_the_same_network(name: str) -> None:
    """All operands are equal, and all registers but for those that are named here."""
    assert FOLDER is not None
    found = np.load(FOLDER / f"{name}_ops.npz")
    (operation,) = lower(same_network(name, found), RK3588).operations
    assert isinstance(operation, Convolution)
    blob = found["blob"].tobytes()
    assert operation.biases.data == blob.ljust(len(operation.biases.data), b"\0")
    ours = values(np.frombuffer(command_lists(operation, strict).data, "<u8").tolist())
    begins = CNA.target + WRITE, CNA.CONV_CON1.offset
    theirs = next(v for v in map(values, vendor_lists(name)) if begins in v)
    known = {
        (unit.target + WRITE, register.offset): register.title()
        for unit in UNITS
        for register in vars(unit).values()
        if isinstance(register, type) and issubclass(register, Register)
    }
    assert {known[p] for p in known if ours.get(p) != theirs.get(p)} == SAME[name]


def same_network(name: str, found: Any) -> Graph:
    """The network of a capture."""
    assert FOLDER is not None
    _, depth, *size = np.load(FOLDER / f"{name}_sim.npz")["x"].shape
    depthwise, transposed = name.startswith(("dw", "dil2dw")), name.startswith("deconv")
    weights, zeros, zero = found["wq"].transpose(0, 2, 3, 1), found["zw"], int(found["zi"])
    sums = (weights.astype(int) - zeros[:, None, None, None]).sum(axis=(1, 2, 3))
    bias = (found["bias"] + zero * sums).astype(np.int32)
    if depthwise:
        weights = weights.transpose(3, 1, 2, 0)
    if transposed:  # the capture has it turned around
        weights = weights[:, ::-1, ::-1]
    b = Builder(name)
    x = b.input("x", "i8", (1, *size, depth), scale=float(found["s_in"]), zero_point=zero)
    axis = 3 if depthwise else 0
    how = Quantization(tuple(map(float, found["sw"])), tuple(map(int, zeros)), axis)
    w = b.constant(np.ascontiguousarray(weights))
    w = dataclasses.replace(w, type=dataclasses.replace(w.type, quantization=how))
    result: dict[str, Any] = {"scale": float(found["s_out"]), "zero_point": int(found["zo"])}
    if transposed:
        twice = 2 * size[0], 2 * size[1]
        b.output(b.transpose_conv(x, w, bias, size=twice, stride=2, padding="same", **result))
    else:
        add = b.depthwise_conv2d if depthwise else b.conv2d
        dilation = 2 if name.startswith("dil2") else 1
        b.output(add(x, w, bias, padding="same", dilation=dilation, **result))
    return b.build()


def vendor_lists(name: str) -> Iterator[list[int]]:
    assert FOLDER is not None
    for one in json.loads((FOLDER / f"{name}_words.json").read_text()):
        yield [int(word, 16) for word in one["words"]]


def values(words: list[int]) -> dict[tuple[int, int], int]:
    """What a list writes, up to the word that starts the units."""
    found: dict[tuple[int, int], int] = {}
    for word in words:
        target, offset, value = split_command(word)
        if target == ENABLE_TARGET:
            break
        found[target, offset] = value
    return found
