"""The declarations against docs/hardware/rocket_registers.json, and round trips."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import FieldOverflow
from teflon_common.registers import Register
from teflon_rocket.registers import (
    CNA,
    DPU,
    REGISTERS,
    command,
    enable_command,
    split_command,
)
from teflon_rocket.text.commands import decode, show, text

FACTS = json.loads(
    (Path(__file__).parents[3] / "docs" / "hardware" / "rocket_registers.json").read_text()
)
ROWS: list[dict[str, Any]] = FACTS["registers"] + FACTS["registers_not_in_xml"]
TARGETS: dict[str, int] = {t["name"]: t["value"] for t in FACTS["targets"]}


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['block']}.{r['name']}")
def test_every_register_and_field_is_declared(row: dict[str, Any]) -> None:
    register = REGISTERS.find(TARGETS[row["block"]], row["offset"])
    assert register is not None
    assert register.title() == f"{row['block']}.{row['name']}"
    wanted = {(f["name"], f["hi"], f["lo"]) for f in row["fields"] if not f.get("reserved", False)}
    assert {(f.name, f.hi, f.lo) for f in register.fields} == wanted


def test_nothing_else_is_declared() -> None:
    assert len(REGISTERS) == len(ROWS)
    assert {b.__name__: b.target for b in REGISTERS.blocks} == TARGETS


@given(st.sampled_from(list(REGISTERS)), st.integers(0, 0xFFFFFFFF))
def test_any_word_survives_unpack_and_pack(register: type[Register], word: int) -> None:
    unpacked = register.unpack(word)
    assert unpacked.pack() == word
    assert register.unpack(unpacked.pack()) == unpacked


@given(st.data())
def test_a_field_takes_its_whole_range_and_nothing_more(data: st.DataObject) -> None:
    register = data.draw(st.sampled_from([r for r in REGISTERS if r.fields]))
    field = data.draw(st.sampled_from(register.fields))
    low = field.minus - ((1 << field.width - 1) if field.signed else 0)
    high = low + (1 << field.width) - 1
    for value in (low, high):
        assert getattr(register.unpack(register(**{field.name: value}).pack()), field.name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(FieldOverflow):
            register(**{field.name: value}).pack()


def test_natural_and_signed_numbers() -> None:
    assert CNA.DATA_SIZE1(DATAIN_CHANNEL=16, DATAIN_CHANNEL_REAL=3).pack() == 2 << 16 | 16
    assert CNA.DMA_CON2(SURF_STRIDE=-32).pack() == 0x0FFFFFE0
    assert CNA.DMA_CON2.unpack(0x0FFFFFE0).SURF_STRIDE == -32
    assert DPU.OUT_CVT_OFFSET(OUT_CVT_OFFSET=-128).pack() == 0xFFFFFF80


def test_overflow_names_register_field_value_and_width() -> None:
    with pytest.raises(
        FieldOverflow, match=r"^CNA\.CONV_CON3: CONV_X_STRIDE is 9, must fit 3 bits$"
    ):
        CNA.CONV_CON3(CONV_X_STRIDE=9).pack()
    with pytest.raises(
        FieldOverflow,
        match=r"^DPU\.DATA_CUBE_WIDTH: WIDTH is 0, must fit 13 bits after 1 is taken off$",
    ):
        DPU.DATA_CUBE_WIDTH(WIDTH=0).pack()


# Ref: docs/hardware/rocket.md §1.2, §7.5 (words of captured lists)
GOLDEN = [
    (0x0201_00000009_1014, "CNA.CONV_CON3 CONV_X_STRIDE=1 CONV_Y_STRIDE=1"),
    (0x0201_0000202A_1040, "CNA.CBUF_CON0 DATA_BANK=10 WEIGHT_BANK=2 WEIGHT_REUSE=1"),
    (0x1001_001F003F_403C, "DPU.DATA_CUBE_CHANNEL CHANNEL=64 ORIG_CHANNEL=32"),
    (0x0801_00000000_3030, "CORE.UNKNOWN_3030"),
    (0x0041_00000000_0000, "prepare"),
    (0x0081_0000001D_0008, "enable CNA CORE DPU DPU_RDMA"),
    (0x0000_00000000_0000, "-"),
    (0x7777_00000001_0004, "unknown target=#7777 offset=#0004 value=#00000001"),
    (0x0201_80000009_1014, "CNA.CONV_CON3 CONV_X_STRIDE=1 CONV_Y_STRIDE=1 rest=#80000000"),
]


@pytest.mark.parametrize(("word", "line"), GOLDEN)
def test_words_as_text(word: int, line: str) -> None:
    (decoded,) = decode(word.to_bytes(8, "little"))
    assert show(decoded) == line
    if decoded.register is not None:
        assert command(decoded.register) == word


def test_enable_word() -> None:
    assert enable_command(0x1D) == 0x00810000001D0008


@given(st.binary(max_size=80))
def test_text_never_fails(data: bytes) -> None:
    assert len(text(data).splitlines()) == len(data) // 8


def test_split_command() -> None:
    assert split_command(0x0201_12345678_1070) == (0x0201, 0x1070, 0x12345678)
