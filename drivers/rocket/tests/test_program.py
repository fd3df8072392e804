"""Programs as bytes, and tensors on their way into buffers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import ProgramError
from teflon.ir.builder import Builder
from teflon.ir.types import DType, Quantization, TensorType
from teflon_common.layout import from_rows, from_surfaces, surface_bytes, to_rows, to_surfaces
from teflon_common.program import Buffer, pack, unpack
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import VERSION, Job, Port, Reloc, RocketProgram, Task


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 70), st.sampled_from([0, 0x80]),
    st.integers(0, 255),
)  # fmt: skip
def test_surfaces(height: int, width: int, channels: int, flip: int, fill: int) -> None:
    shape = (height, width, channels)
    image = np.random.default_rng(channels).integers(0, 256, shape, np.uint8)
    out = np.full(surface_bytes(shape) + 16, 77, np.uint8)
    to_surfaces(image, out, flip, fill)
    for k in range(-(-channels // 16) * 16):
        lane = out[(k // 16) * height * width * 16 :][: height * width * 16].reshape(-1, 16)
        want = image[:, :, k].ravel() ^ flip if k < channels else fill
        assert (lane[:, k % 16] == want).all()
    assert (out[-16:] == 77).all()
    back = np.empty(shape, np.uint8)
    from_surfaces(out, back, flip)
    assert (back == image).all()


@given(
    st.integers(1, 9), st.integers(1, 70), st.integers(0, 3), st.sampled_from([0, 0x80]),
    st.integers(0, 255),
)  # fmt: skip
def test_numpy_does_the_same(pixels: int, channels: int, more: int, flip: int, fill: int) -> None:
    """Without the C module."""
    shape, pitch = (1, pixels, channels), pixels + more
    image = np.random.default_rng(channels).integers(0, 256, shape, np.uint8)
    size = surface_bytes((1, pitch, channels)) + 16
    ours, theirs = (np.full(size, 77, np.uint8) for _ in range(2))
    to_surfaces(image, ours, flip, fill, pitch)
    with patch("teflon_common.layout._layout", None):
        to_surfaces(image, theirs, flip, fill, pitch)
        back = np.empty(shape, np.uint8)
        from_surfaces(ours, back, flip, pitch)
        assert (back == image).all()
    assert (ours == theirs).all()


def test_short_memory_is_refused() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="surfaces 63, must be 12 and 64"):
        to_surfaces(image, np.zeros(63, np.uint8))


def test_rows() -> None:
    image = np.arange(6, dtype=np.int8).reshape(2, 3, 1)
    out = np.zeros(40, np.uint8)
    to_rows(image, out, 16, 0x80, 9)
    assert out.tolist() == [128, 129, 130, *[9] * 13, 131, 132, 133, *[9] * 13, *[0] * 8]
    back = np.empty((2, 3, 1), np.uint8)
    from_rows(out, back, 16, 0x80)
    assert (back.view(np.int8) == image).all()


def test_port_of_a_batch() -> None:
    tensor = TensorType(DType.INT8, (2, 3, 4, 5), Quantization.per_tensor(0.5, 3))
    port = Port(tensor, 0, "surfaces", image_pitch=400, flip=0)
    memory = np.zeros(1000, np.uint8)
    data = np.random.default_rng(1).integers(-128, 128, tensor.shape, np.int8)
    port.store(data, memory)
    assert (port.fetch(memory) == data).all()
    assert not (port.fetch(memory[16:]) == data).all()


COUNTS = {"tasks": 2, "jobs": 1, "command_words": 8, "coefficient_bytes": 3, "macs": 0}


def program() -> RocketProgram:
    tensor = TensorType(DType.UINT8, (1, 4, 4, 16), Quantization.per_tensor(0.1, 128))
    return RocketProgram(
        chip="rk3588",
        strategy="exact",
        buffers=(
            Buffer("weights", 64, b"abc", "conv"),
            Buffer("tensor", 512, None, "x"),
            Buffer("regcmd", 64, bytes(range(64)), "conv"),
        ),
        relocs=(Reloc(2, 8, 1, 16), Reloc(2, 16, 0, 0)),
        jobs=(Job((Task(2, 0, 4), Task(2, 32, 4)), (1,), (1,), "conv"),),
        input_ports=(Port(tensor, 1, "surfaces", flip=0x80),),
        output_ports=(Port(tensor, 1, "surfaces", flip=0x80),),
        counts=COUNTS,
    )


def test_round_trip() -> None:
    one = program()
    two = RocketProgram.from_bytes(one.to_bytes(), "rk3588")
    assert [getattr(one, f.name) for f in dataclasses.fields(one)] == [
        getattr(two, f.name) for f in dataclasses.fields(two)
    ]
    assert two.to_bytes() == one.to_bytes()
    assert two.statistics == COUNTS
    assert two.inputs == one.inputs


REFUSALS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "short": (lambda d: d[:10], r"program: checksum|program: begins with"),
    "magic": (
        lambda d: b"NOTMAGIC" + d[8:],
        r"program: begins with b'NOTMAGIC', must begin with b'TEFLONPR' \(is this a compiled program\?\)",  # noqa: E501
    ),
    "format": (
        lambda d: d[:8] + b"\x09" + d[9:],
        r"program: format is 9, must be 2 \(compile it again\)",
    ),
    "flipped": (
        lambda d: d[:-1] + bytes([d[-1] ^ 1]),
        r"program: checksum of its \d+ bytes is not the one it was written with \(the file is damaged: compile it again\)",  # noqa: E501
    ),
    "cut": (lambda d: d[:-1], r"program: checksum of its \d+ bytes .*"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_damaged_programs_are_refused(name: str) -> None:
    damage, message = REFUSALS[name]
    with pytest.raises(ProgramError, match=rf"^(?:{message})"):
        RocketProgram.from_bytes(damage(program().to_bytes()), "rk3588")


def test_others_programs_are_refused_naming_both_sides() -> None:
    data = program().to_bytes()
    with pytest.raises(
        ProgramError, match=r"^program: chip is 'rk3588', must be 'rk3566' \(compile the model for"
    ):
        RocketProgram.from_bytes(data, "rk3566")
    other = dataclasses.replace(program(), driver="etnaviv").to_bytes()
    with pytest.raises(
        ProgramError, match=r"^program: driver is 'etnaviv', must be 'rocket' \(compile the model"
    ):
        RocketProgram.from_bytes(other, "rk3588")
    assert re.search(b'"version":"3"', data)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"jobs": [["conv", [1], [1], 9]]}, "a job has other fields, must have name, reads"),
    ({"jobs": [["conv", [3], [1], 2, []]]}, "job 0: reads is [3], must be a list, each a whole"),
    ({"jobs": [["conv", [1], [1], 1 << 40, []]]}, "its jobs have [1099511627776] tasks, must have"),
    ({"jobs": [["conv", [1], [1], 2, [["a", 1]]]]}, "operations of job 'conv' do not have its 2"),
    ({"buffers": 5}, "buffers are 5, must be a list"),
    ({"counts": {}}, "counts are {}, must have tasks, jobs"),
    ({"counts": {**COUNTS, "macs": 1 << 63}}, "count 4: number is 9223372036854775808, must be"),
    ({"strategy": "other"}, "strategy is 'other', must be one of exact, mesa"),
    ({"inputs": [{}]}, "a port has other fields, must have type, buffer"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_content_that_its_format_does_not_allow(change: dict[str, Any], message: str) -> None:
    """The checksum is right, but the content is not."""
    header, arrays = unpack(program().to_bytes(), "rocket", VERSION)
    del header["sections"]
    data = pack({**header, **change}, arrays)
    with pytest.raises(ProgramError, match=rf"^program: {re.escape(message)}.*model again\)$"):
        RocketProgram.from_bytes(data, "rk3588")


PORT: list[tuple[dict[str, Any], str]] = [
    ({"type": TensorType(DType.FLOAT32, (1, 4, 4, 4))}, "must have elements of one byte"),
    ({"type": TensorType(DType.UINT8, (1, 0, 4, 4))}, "must have elements of one byte"),
    ({"layout": "rows"}, "its pitches must be those of"),
    ({"layout": "columns"}, "must be one of surfaces, rows, unset"),
    ({"surface_pitch": 15}, "its pitches must be those of"),
    ({"offset": 257}, "ends at byte 513, must end within its buffer of 512 bytes"),
    ({"flip": 256}, "flip is 256, must be a whole number from 0 to 255"),
    ({"buffer": 3}, "buffer is 3, must be a whole number from 0 to 2"),
    ({"name": "\ud800"}, "name is '\\ud800', must be text"),
]


@pytest.mark.parametrize(("change", "message"), PORT)
def test_ports_lie_in_their_buffers(change: dict[str, Any], message: str) -> None:
    one = program()
    bad = dataclasses.replace(one, input_ports=(dataclasses.replace(one.input_ports[0], **change),))
    with pytest.raises(ProgramError, match=rf"^program: .*{re.escape(message)}"):
        RocketProgram.from_bytes(bad.to_bytes(), "rk3588")


ROWS: list[tuple[dict[str, Any], str]] = [
    ({"relocs": (Reloc(2, 60, 1, 0),)}, "reloc 0: offset is 60, must be a place in its buffer"),
    ({"relocs": (Reloc(1, 0, 1, 0),)}, "reloc 0: offset is 0, must be a place in its buffer"),
    ({"relocs": (Reloc(2, 0, 3, 0),)}, "reloc 0: target is 3, must be a whole number from 0 to 2"),
    ({"relocs": (Reloc(2, 0, 0, 64),)}, "reloc 0: addend is 64, must be a place in its target"),
    ({"jobs": (Job((Task(2, 0, 9),), (), ()),)}, "task 0: offset is 0, must be a place in its"),
    ({"jobs": (Job((Task(2, 64, 1),), (), ()),)}, "task 0: offset is 64, must be a place in its"),
    ({"jobs": (Job((Task(2, 0, 0),), (), ()),)}, "task 0: count is 0, must be a whole number from"),
    ({"jobs": (Job((), (), ()),)}, "job 0: tasks is 0, must be a whole number from 1"),
]


@pytest.mark.parametrize(("change", "message"), ROWS)
def test_rows_refer_to_what_is_there(change: dict[str, Any], message: str) -> None:
    bad = dataclasses.replace(program(), **change)
    with pytest.raises(ProgramError, match=rf"^program: {re.escape(message)}"):
        RocketProgram.from_bytes(bad.to_bytes(), "rk3588")


def test_buffers_above_the_address_space() -> None:
    """Absurd sizes are refused before a kernel is asked for memory."""
    for sizes in ([1 << 40], [1 << 31, 1 << 31, 1]):
        more = tuple(Buffer("tensor", size, None, "big") for size in sizes)
        bad = dataclasses.replace(program(), buffers=(*program().buffers, *more))
        with pytest.raises(ProgramError, match=r"^program: its buffers take \d+ bytes of device"):
            RocketProgram.from_bytes(bad.to_bytes(), "rk3588")


def test_a_compiled_program_survives() -> None:
    """Loaded again, it is the same to the last bit."""
    b = Builder("kept")
    x = b.input("x", "i8", (2, 9, 9, 5), 0.1, 3)
    y = b.conv2d(x, np.ones((5, 3, 3, 5), np.int8), weight_scale=0.01, padding="same", name="y")
    b.output(b.add(y, x, name="sum", scale=0.3))
    device = RocketDevice("rk3588")
    compiled = device.compile(b.build())
    loaded = device.load(compiled.to_bytes())
    assert loaded.to_bytes() == compiled.to_bytes()
    assert device.describe(loaded) == device.describe(compiled)
    assert loaded.statistics == compiled.statistics
