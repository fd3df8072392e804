"""Encoders against the page's examples and against the simulator's decoders."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import EncodingError, SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv import chips
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.coding import CODING as EXACT
from teflon_etnaviv.mesa.coding import CODING as MESA
from teflon_etnaviv.nn import coefs_v7, coefs_v8
from teflon_etnaviv.nn.coding import Coefficients, LayerCoding
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.simulator import coefs
from tests.etnaviv.layers import instruction, layer

CODINGS = st.sampled_from([EXACT, MESA])
A311D, IMX8MP = chips.chip("a311d"), chips.chip("imx8mp")


def test_v7_example() -> None:
    """Ref: docs/hardware/etnaviv.md section 7.6."""
    weights = np.full((8, 1, 3, 3), 0x80, np.uint8)
    weights[0, 0, 1, 1], weights[0, 0, 2, 2] = 0x85, 0x7F
    data = coefs_v7.encode(layer(weights, [100] * 8), A311D, 1, MESA).data
    assert data[:4].hex() == "40000000"
    assert data[64:80].hex(" ") == "02 01 00 00 f2 00 00 00 5c f8 1f 00 00 00 00 00"
    assert data[128:144].hex(" ") == "02 01 00 00 92 01 00 00 0c 38 20 04 00 00 00 00"


def test_v8_example() -> None:
    """Ref: docs/hardware/etnaviv.md section 7.6."""
    raw = np.frombuffer(bytes.fromhex("80817f827e857be400"), np.uint8).reshape(1, 1, 3, 3)
    data = coefs_v8.encode(layer(raw, [100]), IMX8MP, 1, MESA).data
    assert data[:32].hex() == "10" + "00" * 19 + "07251436" + "00000000" + "4e000000"
    assert data[64:75].hex(" ") == "4a 54 97 24 0c 0c 22 43 92 3f 00"
    assert data[128:].hex(" ") == "7c f3 ff ff"


def _read(coded: Coefficients, like: Layer, chip: Chip, per_core: int) -> coefs.Kernels:
    memory = DeviceMemory()
    room = np.zeros(len(coded.data) + 64, np.uint8)
    room[: len(coded.data)] = np.frombuffer(coded.data, np.uint8)
    memory.map(0x1000, room, "coefficients")
    return coefs.read(instruction(like, per_core), chip, memory, "test")


def _dense(found: coefs.Kernels, zero: int, planes: int) -> npt.NDArray[np.uint8]:
    """All weights, also of the planes that were left out because they have none."""
    if found.plane is None:
        return found.weights
    full = np.full((len(found.weights), planes, found.weights.shape[2]), zero, np.uint8)
    full[np.arange(len(full)), found.plane] = found.weights[:, 0]
    return full


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layer, int]:
    """A layer with its number of superblocks; sparse and dense weights."""
    kernels, planes = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    size = draw(st.sampled_from([1, 2, 3, 4, 5, 7]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    zero = draw(st.integers(0, 255))
    weights = rng.integers(0, 256, (kernels, planes, size, size)).astype(np.uint8)
    weights[rng.random(weights.shape) < draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))] = zero
    bias = rng.integers(-(2**31), 2**31, kernels).tolist()
    made = layer(weights, bias, zero, draw(st.integers(0, 255)), size=9)
    pointwise = size == 1 and planes > 1
    return dataclasses.replace(made, pointwise=pointwise), draw(st.integers(1, 3))


def _superblocks(chip: Chip, kernels: int, wanted: int) -> tuple[int, int]:
    """A number of superblocks that can be, and the kernels per core and superblock."""
    per_core = -(-kernels // chip.nn_core_count)
    each = -(-per_core // min(wanted, per_core))
    return -(-per_core // each), each


@given(case=cases(), coding=CODINGS, name=st.sampled_from(["a311d", "s905d3"]))
def test_v7_decodes_to_what_was_encoded(
    case: tuple[Layer, int], coding: LayerCoding, name: str
) -> None:
    made, wanted = case
    chip = chips.chip(name)
    blocks, each = _superblocks(chip, made.out_channels, wanted)
    made = dataclasses.replace(made, height=99)  # Mesa splits columns of large images, as silicon
    if made.taps == 1 and made.in_channels == 1:
        made = dataclasses.replace(made, pointwise=True)
    coded = coefs_v7.encode(made, chip, blocks, coding)
    assert len(coded.data) <= coded.size_bytes
    found = _read(coded, made, chip, each)
    real = found.channel < made.out_channels
    order = np.argsort(found.channel[real])
    assert found.channel[real][order].tolist() == list(range(made.out_channels))
    weights = _dense(found, made.weights.zero, made.planes)
    assert (weights[real][order].reshape(-1) == made.weights.data).all()
    wanted_bias = coefs_v7.corrected_bias(made, made.out_channels)
    assert (found.bias[real][order] == wanted_bias).all()
    assert (weights[~real] == made.weights.zero).all()


@pytest.mark.parametrize("second", [None, 3, 11])
def test_v7_kernels_of_one_plane_are_read_as_such(second: int | None) -> None:
    rng = np.random.default_rng(1)
    weights = np.full((12, 12, 3, 3), 77, np.uint8)
    weights[np.arange(12), np.arange(12)] = rng.integers(0, 256, (12, 3, 3))
    if second is not None:
        weights[2, second, 1, 1] = 78
    made = layer(weights, list(range(12)), 77)
    found = _read(coefs_v7.encode(made, A311D, 1, EXACT), made, A311D, 2)
    assert (found.plane is None) == (second is not None)
    order = np.argsort(found.channel)[:12]
    assert (_dense(found, 77, 12)[order].reshape(-1) == made.weights.data).all()
    assert found.plane is None or found.plane[order].tolist() == list(range(12))


@given(case=cases(), coding=CODINGS)
def test_v8_decodes_to_what_was_encoded(case: tuple[Layer, int], coding: LayerCoding) -> None:
    made, wanted = case
    blocks, each = _superblocks(IMX8MP, made.out_channels, wanted)
    coded = coefs_v8.encode(made, IMX8MP, blocks, coding)
    assert len(coded.data) <= coded.size_bytes
    found = _read(coded, made, IMX8MP, each)
    assert (found.weights.reshape(-1) == made.weights.data).all()
    assert (found.bias == coefs_v8.corrected_bias(made)).all()


@given(kernels=st.integers(6, 50), size=st.sampled_from([2, 3, 5]), wanted=st.integers(1, 3))
def test_v8_depthwise_channels(kernels: int, size: int, wanted: int) -> None:
    rng = np.random.default_rng(kernels)
    weights = rng.integers(0, 256, (kernels, 1, size, size)).astype(np.uint8)
    made = layer(weights, [7] * kernels, depthwise=True, planes=kernels)
    blocks, each = _superblocks(IMX8MP, kernels, wanted)
    found = _read(coefs_v8.encode(made, IMX8MP, blocks, EXACT), made, IMX8MP, each)
    assert (found.weights.reshape(-1) == made.weights.data).all()


@given(case=cases(), name=st.sampled_from(["a311d", "s905d3", "imx8mp"]))
def test_exact_is_never_larger(case: tuple[Layer, int], name: str) -> None:
    made, wanted = case
    chip = chips.chip(name)
    blocks, _ = _superblocks(chip, made.out_channels, wanted)
    encode = coefs_v8.encode if chip.huffman else coefs_v7.encode
    ours, mesas = (encode(made, chip, blocks, coding) for coding in (EXACT, MESA))
    assert len(ours.data) <= len(mesas.data)
    assert ours.cache_bytes <= mesas.cache_bytes


def test_few_depthwise_channels_are_refused() -> None:
    made = layer(np.zeros((4, 1, 3, 3), np.uint8), [0] * 4, depthwise=True, planes=4, title="dw")
    with pytest.raises(EncodingError, match=r"dw: 4 depthwise channels, must be 1 or at least 6"):
        coefs_v8.encode(made, IMX8MP, 1, EXACT)


@pytest.mark.parametrize(
    ("chip", "places"), [(A311D, (0, 64, 65)), (IMX8MP, (0, 1, 20, 28, 64))], ids=["v7", "v8"]
)
def test_damaged_streams_are_faults(chip: Chip, places: tuple[int, ...]) -> None:
    made = layer(np.arange(8 * 9, dtype=np.uint8).reshape(8, 1, 3, 3), [1] * 8)
    encode = coefs_v8.encode if chip.huffman else coefs_v7.encode
    coded = encode(made, chip, 1, EXACT)
    for place in places:
        data = bytearray(coded.data)
        data[place] ^= 0x29
        with pytest.raises(SimulatorFault, match=r"^test"):
            _read(dataclasses.replace(coded, data=bytes(data)), made, chip, 2)
