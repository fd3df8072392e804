"""Programs of the family are checked where they enter: every reference, size and offset."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from teflon.errors import ProgramError
from teflon.ir.builder import Builder
from teflon.ir.types import DType, TensorType
from teflon_common.program import pack, unpack
from teflon_etnaviv import uapi
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.engines import ENGINES
from teflon_etnaviv.grouped import Grouped
from teflon_etnaviv.program import (
    ADDRESS_SPACE,
    DRIVER,
    INSTRUCTION_BYTES,
    STREAM,
    VERSION,
    EtnavivProgram,
    Launch,
    Reloc,
)

DEVICE = EtnavivDevice("a311d")


def program() -> EtnavivProgram:
    b = Builder("stored")
    x = b.input("x", "u8", (1, 4, 4, 8), 0.5, 128)
    b.output(b.add(b.add(x, x, name="a", scale=0.9), x, name="b", scale=1.5))
    return DEVICE.compile(b.build())


ONE = program()
CODE = ONE.instructions[0].buffer
PORT = ONE.input_ports[0]


def refused(changed: EtnavivProgram) -> str:
    with pytest.raises(ProgramError) as found:
        DEVICE.load(changed.to_bytes())
    return str(found.value)


def test_facts_that_are_written_twice() -> None:
    sizes = {role: 4 * engine.instruction.words for role, engine in ENGINES.items()}
    assert sizes == INSTRUCTION_BYTES
    assert uapi.SOFTPIN_END + 1 - uapi.SOFTPIN_START == ADDRESS_SPACE


def test_a_compiled_program_is_read_as_it_is() -> None:
    again = DEVICE.load(ONE.to_bytes())
    for field in dataclasses.fields(ONE):
        assert getattr(again, field.name) == getattr(ONE, field.name), field.name


LAST = len(ONE.stream)
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"relocs": (Reloc(STREAM, LAST, "addr32", 0),)},
        f"reloc 0: offset is {LAST}, must be a place",
    ),
    ({"relocs": (Reloc(STREAM, 2, "addr32", 0),)}, "reloc 0: offset is 2, must be a place in its"),
    (
        {"relocs": (Reloc(-2, 0, "addr32", 0),)},
        "reloc 0: buffer is -2, must be a whole number from",
    ),
    (
        {"relocs": (Reloc(STREAM, 0, "addr32", 99),)},
        "reloc 0: target is 99, must be a whole number",
    ),
    ({"relocs": (Reloc(STREAM, 0, "addr32", 0, -1),)}, "reloc 0: addend is -1, must be a place in"),
    ({"bos": ((0, 3), (0, 1))}, "its submit lists a buffer twice, must list each once"),
    ({"bos": ((0, 4),)}, "use 0: flags is 4, must be a whole number from 1 to 3"),
    ({"stream": b"abc"}, "its stream is 3 of uint8, must be whole words"),
    (
        {"instructions": (Launch("a", CODE, 1 << 20),)},
        "launch 0: offset is 1048576, must be a place",
    ),
    (
        {"instructions": (Launch("a", PORT.buffer),)},
        "launch 0: offset is 0, must be a place in its",
    ),
    (
        {"instructions": (Launch("a", CODE, 0, -1),)},
        "launch 0: coded is -1, must be a whole number",
    ),
    ({"grouped": (Grouped("a", 1, 1, float("nan"), 1),)}, "layer 0: decibels is nan, must be a"),
    ({"strategy": "none"}, "strategy is 'none', must be one of exact, mesa"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_rows_refer_to_what_is_there(change: dict[str, Any], message: str) -> None:
    text = refused(dataclasses.replace(ONE, **change))
    assert re.match(rf"^program: {re.escape(message)}.*\(compile the model again\)$", text)


PORTS: list[tuple[dict[str, Any], str]] = [
    ({"offset": 1 << 20}, "ends at byte"),
    ({"type": TensorType(DType.FLOAT32, (1, 1 << 20))}, "ends at byte"),
    ({"type": TensorType(DType.OTHER, (1, 4, 4, 8))}, "must have elements of a known type"),
    ({"type": TensorType(DType.UINT8, (0,))}, "must have elements of a known type"),
    ({"order": (0, 1, 2, 3, 4, 5, 6, 6)}, "order must have its 8 channels once each"),
    ({"order": (0,)}, "order must have its 8 channels once each"),
    ({"flip": 300}, "flip is 300, must be a whole number from 0 to 255"),
]


@pytest.mark.parametrize(("change", "message"), PORTS)
@pytest.mark.parametrize("which", ["input_ports", "output_ports"])
def test_ports_lie_in_their_buffers(which: str, change: dict[str, Any], message: str) -> None:
    port = dataclasses.replace(getattr(ONE, which)[0], **change)
    ports: dict[str, Any] = {which: (port,)}
    text = refused(dataclasses.replace(ONE, **ports))
    assert message in text


def test_buffers_above_the_address_space() -> None:
    big = dataclasses.replace(ONE.buffers[0], size=1 << 31, data=None)
    text = refused(dataclasses.replace(ONE, buffers=(*ONE.buffers, big, big)))
    assert re.match(r"^program: its buffers take \d+ bytes of device addresses, must fit in", text)


def test_an_instruction_that_computes_nothing_has_no_cost() -> None:
    """Its fields are any bits, so that only asking for a cost can refuse it."""
    b = Builder("conv")
    x = b.input("x", "u8", (1, 8, 8, 8), 0.5, 128)
    kernel = np.ones((8, 3, 3, 8), np.uint8)
    b.output(b.conv2d(x, kernel, weight_scale=0.1, name="y", padding="same"))
    made = DEVICE.compile(b.build())
    header, arrays = unpack(made.to_bytes(), DRIVER, VERSION)
    role = [buffer.role for buffer in made.buffers].index("nn_config")
    arrays[f"buffer {role}"] = arrays[f"buffer {role}"] * 0
    del header["sections"]
    loaded = DEVICE.load(pack(header, arrays))
    with pytest.raises(ProgramError, match=r"^etnaviv: '.*' has tiles or outputs of no size"):
        DEVICE.estimate(loaded)
    assert DEVICE.describe(loaded)
