"""The simulated cores' C loops against the same things written down pixel by pixel."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv import chips
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.nn import coefs_v7, coefs_v8
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.simulator import _macs, _windows, macs, nn, tp
from teflon_etnaviv.simulator.launch_cache import LaunchCache, Scratch
from tests.etnaviv.layers import changed, instruction, layer

U8 = npt.NDArray[np.uint8]
COEFFICIENTS, INPUT, OUTPUT = 0x10000, 0x400000, 0x800000


@contextlib.contextmanager
def units(plain: bool) -> Iterator[None]:
    """Use the loops that every machine has, or those for this one."""
    with pytest.MonkeyPatch.context() as patch:
        both = {name: getattr(_macs, name) for name in ("dense", "single")}
        forms = {n: (lambda *a, f=f: f(*a, plain)) for n, f in both.items()}
        patch.setattr(macs, "_macs", SimpleNamespace(**forms))
        yield


def to_byte(total: int, multiplier: int, shift: int, relu: bool, zero: int) -> int:
    """Ref: docs/hardware/etnaviv.md section 8.2, steps 3 to 5, in whole numbers."""
    total = (total + 2**31) % 2**32 - 2**31
    product, divisor = total * multiplier << max(-shift, 0), 1 << max(shift, 0)
    whole, rest = divmod(product, divisor)
    whole += 2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1)
    return min(max((max(whole, 0) if relu else whole) + zero, 0), 255)


@given(st.data())
def test_sums_become_bytes(data: st.DataObject) -> None:
    """Every multiplier, shift and sum, also halves and sums beyond what a double can scale."""
    multiplier = data.draw(st.integers(1, 2**24 - 1))
    shift, relu = data.draw(st.integers(-63, 127)), data.draw(st.booleans())
    zero = data.draw(st.integers(0, 255))
    near = [round(n * 2.0 ** (shift - 1) / multiplier) for n in range(-600, 600, 37)]
    sums = [n for n in near if -(2**31) <= n < 2**31] + [-(2**31), 2**31 - 1, 0, 1, -1]
    sums += data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9))
    small = max(map(abs, sums)) * multiplier < 2**53
    places = np.arange(len(sums))
    for plain, bounded in itertools.product((False, True), {False, small}):
        out = np.zeros(len(sums), np.uint8)
        _macs.single(
            np.zeros(1, np.uint8), np.zeros(len(sums), np.int64), np.zeros(1, np.int32),
            np.zeros(len(sums), np.int16), np.array(sums, np.int32), places, out, (1, 1, 1, 1),
            (multiplier, shift, relu, zero, bounded), (0, len(sums)), plain,
        )  # fmt: skip
        assert out.tolist() == [to_byte(n, multiplier, shift, relu, zero) for n in sums]


@dataclasses.dataclass
class Case:
    """A layer as an instruction, with what memory holds."""

    chip: Chip
    made: Layer
    i: NNInstruction
    image: U8
    weights: U8

    def memory(self, output: int = OUTPUT) -> DeviceMemory:
        memory = DeviceMemory()
        coded = (coefs_v8 if self.chip.huffman else coefs_v7).encode(
            self.made, self.chip, 1, CODING
        )
        room = np.zeros(len(coded.data) + 4096, np.uint8)
        room[: len(coded.data)] = np.frombuffer(coded.data, np.uint8)
        memory.map(COEFFICIENTS, room, "coefficients")
        memory.map(INPUT, self.image.copy(), "input")
        if output != INPUT:
            memory.map(output, np.full(1 << 16, 0xAA, np.uint8), "output")
        return memory

    def run(self, memory: DeviceMemory) -> U8:
        """Return what memory has where the output is."""
        nn.ready(self.i, self.chip, memory, "test").run(memory, Scratch(), "test")
        i = self.i
        size = i.out_image_z_size * i.out_image_x_stride * i.out_image_y_stride
        return memory.view(i.out_image_address, size, "output").copy()

    def wanted(self) -> list[int]:
        """Ref: docs/hardware/etnaviv.md section 8.2."""
        i = self.i
        step = 2 if i.pooling else 1
        v8 = self.chip.huffman
        bias = (
            coefs_v8.corrected_bias(self.made)
            if v8
            else coefs_v7.corrected_bias(self.made, i.out_image_z_size)
        )
        shape = nn._shape(i, self.chip)
        bytes_ = []
        for kernel, y, x in itertools.product(
            range(i.out_image_z_size), range(0, i.out_image_y_size, step),
            range(0, i.out_image_x_size, step),
        ):  # fmt: skip
            reach = 2 if i.pooling == 1 else 1
            places = itertools.product(range(y, y + reach), range(x, x + reach))
            bytes_.append(max(self.byte(kernel, int(bias[kernel]), *at, shape) for at in places))
        return bytes_

    def byte(self, kernel: int, total: int, y: int, x: int, shape: Any) -> int:
        """Return the result of one place of the grid."""
        i, base = self.i, 128 if self.chip.huffman else 0
        for z, r, q in np.ndindex(*self.weights.shape[1:]):
            plane = kernel if i.depthwise else z
            pixel = self.pixel(plane, y + shape.offset_y + r, x + shape.offset_x + q)
            total += (int(self.weights[kernel, z, r, q]) - i.coef_zero_point) * (pixel - base)
        scale = (shape.multiplier, shape.shift, bool(i.relu), i.out_zero_point)
        return int(to_byte(total, *scale))

    def pixel(self, z: int, y: int, x: int) -> int:
        i = self.i
        if not (0 <= y < i.in_image_y_size and 0 <= x < i.in_image_x_size):
            return i.in_image_border_const
        at = z * i.in_image_x_stride * i.in_image_y_stride + y * i.in_image_x_stride + x
        return int(self.image[at])


def weights_of(rng: np.random.Generator, shape: tuple[int, ...], zero: int, kind: str) -> U8:
    """Random weights; `diagonal`: each kernel has some in one plane only."""
    weights = rng.integers(0, 256, shape).astype(np.uint8)
    if kind == "diagonal":
        kept = weights[np.arange(shape[0]), np.arange(shape[0]) % shape[1]].copy()
        weights[:] = zero
        weights[np.arange(shape[0]), np.arange(shape[0]) % shape[1]] = kept
    return weights


def fields(chip: Chip, offset: tuple[int, int], multiplier: int, shift: int) -> dict[str, Any]:
    """The fields that numbers are spread over."""
    y, x = (n & 0x1F for n in offset)
    spread = {
        "in_image_x_offset": x & 7, "in_image_x_offset_bit_3": x >> 3 & 1,
        "in_image_y_offset": y & 7, "in_image_y_offset_bit_3": y >> 3 & 1,
        "post_multiplier": multiplier & 1, "post_multiplier_1_to_6": multiplier >> 1 & 0x3F,
        "post_multiplier_7_to_14": multiplier >> 7 & 0xFF, "post_shift": shift & 0x1F,
        "post_shift_bit_5_6": shift >> 5 & 3,
    }  # fmt: skip
    if chip.huffman:
        spread |= {"unused7_2": x >> 4, "unused7_3": y >> 4, "no_z_offset": 1, "no_flush": 1}
        spread["post_multiplier_15_to_22"] = multiplier >> 15 & 0xFF
    return spread


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Layers of few pixels: borders, steps, rows with gaps, kernels of one plane or many."""
    chip = chips.chip(draw(st.sampled_from(["a311d", "imx8mp", "s905d3"])))
    kind = draw(st.sampled_from(["dense", "diagonal", "depthwise"]))
    depthwise = kind == "depthwise" and chip.huffman
    kernels = draw(st.integers(6 if depthwise else 1, 11))
    size, out = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 7))
    planes = kernels if kind != "dense" else draw(st.integers(1, 7))
    rng, zero = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.integers(0, 255))
    inside = 1 if depthwise else planes
    weights = weights_of(rng, (kernels, inside, size, size), zero, kind)
    bias = rng.integers(-(2**15), 2**15, kernels).tolist()
    made = layer(
        weights, bias, zero, size=out, height=99, depthwise=depthwise, planes=planes,
        pointwise=size == 1 and not depthwise,
    )  # fmt: skip
    high, wide = draw(st.integers(6, 12)), draw(st.integers(6, 40))
    gap, step = draw(st.integers(0, 3)), draw(st.sampled_from([1, 2]))
    pooling = draw(st.sampled_from([1, 3])) if step == 2 else 0
    reach = (-8, 7) if not chip.huffman else (-16, 15)
    offset = (draw(st.integers(*reach)), draw(st.integers(*reach)))
    if draw(st.booleans()):  # all taps within the image
        offset, high, wide = (1, 0), out + size, out + size - 1
    shift = draw(st.integers(20, 34)) if not chip.huffman else draw(st.integers(-3, 12)) & 0x7F
    i = instruction(
        made, -(-kernels // chip.nn_core_count), COEFFICIENTS, in_image_address=INPUT,
        out_image_address=OUTPUT, in_image_y_size=high, in_image_x_size=wide,
        in_image_x_stride=wide + gap, in_image_y_stride=high, out_image_x_size=out * step,
        out_image_y_size=out * step, pooling=pooling, pooling_xy_size=2 - step,
        relu=draw(st.booleans()), out_zero_point=draw(st.integers(0, 255)),
        in_image_border_const=draw(st.integers(0, 255)),
        **fields(chip, offset, draw(st.integers(0, 2**15 - 1)), shift),
    )  # fmt: skip
    image = rng.integers(0, 256, planes * high * (wide + gap)).astype(np.uint8)
    return Case(chip, made, i, image, weights)


@settings(max_examples=60)
@given(case=cases())
def test_layers_are_what_the_page_says(case: Case) -> None:
    i = case.i
    covers = (i.kernel_xy_size, i.kernel_y_size) == (i.in_image_x_size, i.in_image_y_size)
    if covers and i.kernel_z_size == 1:  # a layer of another kind, whose taps come row by row
        return
    for plain in (False, True):
        with units(plain):
            assert case.run(case.memory()).tolist() == case.wanted()


@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_outputs_may_lie_on_their_inputs(kind: str) -> None:
    """All input is read before any output is written."""
    rng = np.random.default_rng(5)
    weights = weights_of(rng, (4, 4, 3, 3), 100, kind)
    made = layer(weights, [1, 2, 3, 4], 100, size=8, height=99)
    i = instruction(
        made, 1, COEFFICIENTS, in_image_address=INPUT, out_image_address=OUTPUT,
        in_image_y_size=10, in_image_x_size=10, in_image_x_stride=10, in_image_y_stride=10,
        post_shift=28, out_zero_point=9,
    )  # fmt: skip
    image = rng.integers(0, 256, 400).astype(np.uint8)
    apart = Case(chips.chip("a311d"), made, i, image, weights)
    wanted = apart.run(apart.memory())
    assert wanted.tolist() == apart.wanted()
    assert len(np.unique(wanted)) > 9
    there = dataclasses.replace(apart, i=changed(i, out_image_address=INPUT))
    assert (there.run(there.memory(INPUT)) == wanted).all()


def test_a_border_of_two_bytes_is_a_fault() -> None:
    made = layer(np.zeros((1, 1, 1, 1), np.uint8), [0], pointwise=True)
    i = instruction(made, 1, in_image_border_const=256, in_image_x_stride=4, in_image_y_stride=4)
    with pytest.raises(SimulatorFault, match=r"^x: in_image_border_const is 256, must be a byte$"):
        nn.check(i, chips.chip("a311d"), "x")


def test_buffers_that_are_too_small_are_refused() -> None:
    def dense(**change: Any) -> None:
        given_: dict[str, Any] = {
            "image": np.zeros(10, np.uint8), "offsets": np.zeros(2, np.int32),
            "weights": np.zeros(8, np.uint8), "bias": np.zeros(4, np.int32),
            "places": np.zeros(4, np.int64), "out": np.zeros(10, np.uint8), "zero": 0,
            "grid": (1, 10, 10, 10), "scale": (1, 0, False, 0, True), "lanes": (0, 1),
            "kernels": (0, 4),
        } | change  # fmt: skip
        _macs.dense(*given_.values())

    dense()
    for change in (
        {"image": np.zeros(9, np.uint8)}, {"offsets": np.array([0, 1], np.int32)},
        {"offsets": np.array([0, -1], np.int32)}, {"weights": np.zeros(7, np.uint8)},
        {"bias": np.zeros(3, np.int32)}, {"places": np.array([0, 0, 0, 1])},
        {"out": np.zeros(9, np.uint8)}, {"grid": (1, 10, 9, 10)}, {"grid": (2, 10, 10, 10)},
        {"grid": (1, 10, 10, 9)}, {"scale": (0, 0, False, 0, True)}, {"lanes": (0, 2)},
        {"scale": (1, 200, False, 0, True)}, {"scale": (1, 0, False, 256, True)},
        {"kernels": (0, 5)}, {"kernels": (-1, 1)}, {"lanes": (-1, 1)}, {"offsets": b""},
        {"zero": -1}, {"zero": 256},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="sizes of the buffers disagree"):
            dense(**change)
    shape = (1, 2, 5, 10, 5)
    _windows.window(bytes(10), bytearray(4), shape, (0, 0), (2, 2), 1, 0)
    for call in (
        (bytes(9), bytearray(4), shape, (0, 0), (2, 2), 1, 0),
        (bytes(10), bytearray(3), shape, (0, 0), (2, 2), 1, 0),
        (bytes(10), bytearray(4), shape, (0, 0), (2, 2), 1, 256),
        (bytes(10), bytearray(4), shape, (0, 1 << 20), (2, 2), 1, 0),
    ):
        with pytest.raises(ValueError, match="sizes of the buffers disagree"):
            _windows.window(*call)


@st.composite
def jobs(draw: st.DrawFn) -> TPInstruction:
    """Jobs of few pixels, with padding, tiles that overlap or leave gaps, any loops."""
    first = (draw(st.integers(-3, 3)), draw(st.integers(-3, 3)))
    nested, small = draw(st.booleans()), st.integers(1, 5)
    counts = [draw(small) for _ in range(6)]
    if not nested:
        counts[1] = counts[2] = 0
    incs = [draw(st.sampled_from([0, 1, 1, 2, 7, 30, -1, -9, 100])) for _ in range(7)]
    loops: dict[str, Any] = {f"out_loop_{n}_count": count for n, count in enumerate(counts)}
    loops |= {f"out_loop_{n}_inc": inc for n, inc in enumerate(incs)}
    return TPInstruction(
        in_image_x_size=draw(small), in_image_y_size=draw(small), in_image_z_size=draw(small),
        in_image_stride=draw(st.integers(5, 7)), in_image_slice=draw(st.integers(20, 40)),
        in_window_x_start=first[0], in_window_y_start=first[1],
        in_window_x_end=first[0] + draw(st.integers(-1, 7)),
        in_window_y_end=first[1] + draw(st.integers(0, 7)),
        in_tile_x_size=draw(small), in_tile_y_size=draw(small), in_tile_x_inc=draw(small),
        in_tile_y_inc=draw(small), in_image_base_address=INPUT, out_image_base_address=OUTPUT,
        in_window_z_start_overfetch=draw(st.integers(0, 2)),
        in_window_z_end_overfetch=draw(st.integers(0, 2)), out_loop_1_reset=not nested,
        out_loop_2_reset=not nested, in_zp=draw(st.sampled_from([0, 3])), out_zp=3, **loops,
    )  # fmt: skip


def emitted(i: TPInstruction) -> Iterator[tuple[int, int, int, int]]:
    """Yield (z, y, x, output offset) as docs/hardware/etnaviv.md section 8.3 has them."""
    wide = i.in_window_x_end - i.in_window_x_start + 1
    high = i.in_window_y_end - i.in_window_y_start + 1
    incs = [getattr(i, f"out_loop_{n}_inc") for n in range(7)]
    counts = [getattr(i, f"out_loop_{n}_count") for n in range(6)]
    depth = i.in_window_z_start_overfetch + i.in_image_z_size + i.in_window_z_end_overfetch
    tiles = (-(-high // i.in_tile_y_inc), -(-wide // i.in_tile_x_inc))
    number = 0
    for k, ty, tx, row, column in np.ndindex(
        depth, *(max(n, 0) for n in tiles), i.in_tile_y_size, i.in_tile_x_size
    ):
        y, x = ty * i.in_tile_y_inc + row, tx * i.in_tile_x_inc + column
        if y >= high or x >= wide:
            continue
        rest, offset = number, 0
        for count, inc in zip(counts, incs, strict=False):
            rest, index = divmod(rest, max(count, 1))
            offset += index * inc
        offset += rest * incs[6]
        if not counts[1]:
            places = (column, row, tx, ty)
            offset = sum(n * inc for n, inc in zip(places, incs[1:5], strict=True)) + k * incs[6]
        number += 1
        yield (
            k - i.in_window_z_start_overfetch,
            y + i.in_window_y_start,
            x + i.in_window_x_start,
            offset,
        )


@settings(max_examples=150)
@given(i=jobs(), seed=st.integers(0, 99))
def test_jobs_move_what_the_page_says(i: TPInstruction, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, 300).astype(np.uint8)
    moves = list(emitted(i))
    low = min((offset for *_, offset in moves), default=0)
    high = max((offset for *_, offset in moves), default=0) + 1
    memory, have = DeviceMemory(), np.full(high - low, 0xAA, np.uint8)
    memory.map(INPUT, image, "input")
    memory.map(OUTPUT + low, have, "output")
    wanted, reads = np.full(high - low, 0xAA, np.uint8), []
    for z, y, x, offset in moves:
        inside = (
            0 <= z < i.in_image_z_size and 0 <= y < i.in_image_y_size and 0 <= x < i.in_image_x_size
        )
        at = z * i.in_image_slice + y * i.in_image_stride + x
        reads += [at] if inside else []
        wanted[offset - low] = np.clip(int(image[at]) - int(i.in_zp) + 3, 0, 255) if inside else 3
    touched = tp.ready(i, chips.chip("a311d"), memory, "test").run(memory, "test")
    assert (have == wanted).all()
    if moves:
        assert touched.written == (OUTPUT + low, OUTPUT + high)
        read = (INPUT + min(reads), INPUT + max(reads) + 1) if reads else (0, 0)
        assert touched.read == read
    else:
        assert touched == tp.Touched()


def test_a_job_may_move_pixels_within_its_image() -> None:
    """All is read before anything is written."""
    data = np.arange(64, dtype=np.uint8)
    memory = DeviceMemory()
    memory.map(INPUT, data, "both")
    i = TPInstruction(
        in_image_x_size=8, in_image_y_size=4, in_image_z_size=1, in_image_stride=8,
        in_image_slice=32, in_window_x_end=7, in_window_y_end=3, in_tile_x_size=8,
        in_tile_y_size=4, in_tile_x_inc=8, in_tile_y_inc=4, in_image_base_address=INPUT,
        out_image_base_address=INPUT + 1, out_loop_0_count=32, out_loop_1_count=1,
        out_loop_2_count=1,
    )  # fmt: skip
    tp.ready(i, chips.chip("a311d"), memory, "test").run(memory, "test")
    assert data.tolist() == [0, *range(32), *range(33, 64)]


def test_jobs_without_end_are_refused() -> None:
    i = TPInstruction(
        in_image_x_size=1, in_image_y_size=1, in_image_z_size=0xFFFF, in_window_x_end=0x7FFF,
        in_window_y_end=0x7FFF, in_tile_x_size=0x8000, in_tile_y_size=1, in_tile_x_inc=1,
        in_tile_y_inc=1,
    )  # fmt: skip
    with pytest.raises(SimulatorFault, match=r"^test: moves \d+ pixels, must be at most \d+$"):
        tp.ready(i, chips.chip("a311d"), DeviceMemory(), "test")


class Sized:
    """Something to keep."""

    def __init__(self, size: int) -> None:
        self.size_bytes = size


def test_the_least_used_launches_are_dropped() -> None:
    kept = LaunchCache[Sized](room=100)
    for name in (b"a", b"b", b"c"):
        kept.put(name, Sized(30))
    assert kept.get(b"a") is not None
    kept.put(b"d", Sized(30))
    assert [name for name in (b"a", b"b", b"c", b"d") if kept.get(name)] == [b"a", b"c", b"d"]
    kept.put(b"a", Sized(40))
    assert all(kept.get(name) for name in (b"a", b"c", b"d"))
    kept.put(b"e", Sized(1000))
    assert not any(kept.get(name) for name in (b"a", b"c", b"d", b"e"))
    kept.put(b"f", Sized(100))
    assert kept.get(b"f") is not None
