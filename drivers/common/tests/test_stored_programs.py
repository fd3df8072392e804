"""The container of programs, and what it checks for drivers that declare nothing themselves."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import tracemalloc
import zlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import ProgramError
from teflon.ir.schema import LARGEST
from teflon.ir.types import Array, DType, Quantization, TensorType
from teflon_common.hosted.program import HostedProgram
from teflon_common.hosted.program import Port as HostedPort
from teflon_common.processor import Step
from teflon_common.program import Buffer, BufferProgram, pack, unpack

COUNTS = {"tasks": 1, "jobs": 1, "command_words": 0, "coefficient_bytes": 0, "macs": 0}
TYPE = TensorType(DType.UINT8, (2, 3), Quantization.per_tensor(0.5, 1))


@dataclasses.dataclass(frozen=True)
class Port:
    """A stranger's port; its driver declares no table."""

    type: TensorType
    buffer: int
    name: str = ""
    note: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class StrangersProgram(BufferProgram):
    """A program of a driver that was written before there were tables."""

    version = "1"
    port = Port

    buffers: tuple[Buffer, ...]
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=lambda: COUNTS)
    chip: str = "chip"
    strategy: str = "any"
    driver: str = "stranger"

    @property
    def statistics(self) -> Mapping[str, int]:
        return self.counts

    def own_parts(self) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        return {"own": [1, 2]}, {"numbers": np.arange(6.0).reshape(2, 3)}

    @classmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        assert arrays["numbers"].shape == (2, 3)
        _ = [1, 2][header["own"][0]]
        return cls(**common)


def program() -> StrangersProgram:
    buffers = (Buffer("a", 8, b"content", "x"), Buffer("b", 1 << 40, None, "y"))
    return StrangersProgram(buffers, (Port(TYPE, 1, "x", {"any": [1]}),))


DATA = program().to_bytes()


def load(data: bytes) -> StrangersProgram:
    return StrangersProgram.from_bytes(data, "chip")


def test_it_is_read_as_it_is() -> None:
    again = load(DATA)
    assert again.to_bytes() == DATA
    assert (again.buffers, again.input_ports) == (program().buffers, program().input_ports)


def other(**header: Any) -> bytes:
    """The program with other parts of its header."""
    plain, arrays = unpack(DATA, "stranger", "1")
    table = plain.pop("sections")
    data = pack({**plain, **header}, arrays)
    if "sections" not in header:
        return data
    (length,) = struct.unpack_from("<I", data, 12)
    body = data[24 + length + -(24 + length) % 64 :]
    text = json.dumps({**plain, "sections": {**table, **header["sections"]}}).encode()
    rest = text + bytes(-(24 + len(text)) % 64) + body
    return struct.pack("<8sIII4x", b"TEFLONPR", 2, len(text), zlib.crc32(rest)) + rest


PORT: dict[str, Any] = {
    "type": {"dtype": "u8", "shape": [2], "quantization": None}, "buffer": 0, "name": "x",
    "note": 0,
}  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"inputs": [{**PORT, "buffer": 2}]},
        "port 0: buffer is 2, must be a whole number from 0 to 1",
    ),
    ({"inputs": [{**PORT, "name": 7}]}, "port 0: name is 7, must be text"),
    ({"inputs": [{**PORT, "type": 7}]}, "is 7, must have dtype, shape and quantization"),
    ({"inputs": [PORT, {"odd": 1}]}, "KeyError while reading it"),
    ({"own": [5, 5]}, "IndexError while reading it: list index out of range"),
    ({"own": {}}, "KeyError while reading it"),
    ({"buffers": [["a", 8, "x", True], ["b", -1, "y", False]]}, "buffer 1: size is -1, must be"),
    (
        {"buffers": [["a", 3, "x", True]]},
        "buffer 0 has 7 bytes of content, must have at most its 3",
    ),
    ({"buffers": [["a", 8, "x", False], ["b", 8, "y", True]]}, "buffer 1 is filled, must have a"),
    (
        {"sections": {"numbers": [0, "<f8", [1 << 40]]}},
        "section 'numbers' of <f8[1099511627776] at",
    ),
    ({"sections": {"numbers": [1 << 40, "<f8", [1]]}}, "section 'numbers' of <f8[1] at 1099511627"),
    (
        {"sections": {"numbers": [0, "|O", [1]]}},
        "section 0: dtype is '|O', must be one of |b1, |i1",
    ),
    ({"sections": {"numbers": [0, "<f8", [0] * 40]}}, "section 'numbers' of <f8[0, 0, 0"),
    ({"sections": {"numbers": 5}}, "sections are {'"),
    ({"chip": 5}, "chip is 5, must be 'chip'"),
    ({"strategy": "\ud800"}, r"strategy is '\ud800', must be text"),
]


@pytest.mark.parametrize(("header", "message"), WRONG)
def test_what_is_refused_without_a_table(header: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=rf"^program: .*{re.escape(message)}"):
        load(other(**header))


@pytest.mark.parametrize("text", [b"[]", b"5", b"{", b"[" * 100_000, b'{"a":"\xff"}', b"9" * 5000])
def test_a_header_that_is_none(text: bytes) -> None:
    data = struct.pack("<8sIII4x", b"TEFLONPR", 2, len(text), zlib.crc32(text)) + text
    with pytest.raises(ProgramError, match=r"^program: .*again\)$"):
        load(data)


@given(st.lists(st.integers(0, LARGEST), max_size=40), st.integers(0, LARGEST))
def test_a_section_takes_no_more_than_the_file_has(shape: list[int], offset: int) -> None:
    data = other(sections={"numbers": [offset, "<f8", shape]})
    tracemalloc.start()
    try:
        header, arrays = unpack(data, "stranger", "1")
        message = ""
        assert sum(array.nbytes for array in arrays.values()) <= len(header) * len(data)
    except ProgramError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert message.startswith("program: section" if message else "")
    assert peak < 32 * len(data) + (1 << 18)


# A small model in its own format -------------------------------------------------------------


def hosted() -> HostedProgram:
    step = Step("CUMSUM 'y'", "y", 1, 2, 3, 4)
    held = TensorType(DType.OTHER, (0,))
    inputs = (HostedPort(TYPE, "x", 3), HostedPort(held, "state", -2))
    return HostedProgram("d", "c", "1", b"model", inputs, (HostedPort(TYPE, "y", "z"),), (step,))


def test_a_hosted_program_is_read_as_it_is() -> None:
    again = HostedProgram.from_bytes(hosted().to_bytes(), "d", "c", "1")
    assert again.to_bytes() == hosted().to_bytes()
    assert again.statistics == hosted().statistics


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("inputs", (HostedPort(TYPE, "x", -3),), "a port: runtime_name: is -3, must be text or a"),
        ("inputs", (HostedPort(TYPE, "x", True),), "a port: runtime_name: is True, must be text"),
        ("outputs", (HostedPort(TYPE, "\ud800", 1),), r"port 0: name is '\ud800', must be text"),
        (
            "steps",
            (Step("a", "b", -1, 0, 0, 0),),
            "operation 0: macs is -1, must be a whole number",
        ),
        ("steps", (Step("a", "b", 1 << 63, 0, 0, 0),), "operation 0: macs is 9223372036854775808"),
    ],
)
def test_what_a_hosted_program_may_not_have(field: str, value: Any, message: str) -> None:
    name = {"inputs": "input_ports", "outputs": "output_ports"}.get(field, field)
    changes: dict[str, Any] = {name: value}
    bad = dataclasses.replace(hosted(), **changes).to_bytes()
    with pytest.raises(ProgramError, match=rf"^program: {re.escape(message)}"):
        HostedProgram.from_bytes(bad, "d", "c", "1")
