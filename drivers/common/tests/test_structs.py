"""Structs and requests of kernel interfaces: layout, text, overflow."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import FieldOverflow
from teflon_common.drm import GEM_CLOSE, GENERIC, VERSION
from teflon_common.structs import (
    Ioctl,
    Struct,
    Uapi,
    address,
    pack_array,
    request_fields,
    s32,
    s64,
    u32,
    u64,
)


class Mixed(Struct, size=32):
    small: int = u32(7)
    wide: int = u64()
    place: int = address(32)
    signed: int = s64()


class MixedC(ctypes.Structure):
    _fields_ = (
        ("small", ctypes.c_uint32),
        ("wide", ctypes.c_uint64),
        ("place", ctypes.c_uint32),
        ("signed", ctypes.c_int64),
    )


@given(
    st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1),
)  # fmt: skip
def test_layout_is_that_of_c(small: int, wide: int, place: int, signed: int) -> None:
    ours = Mixed(small=small, wide=wide, place=place, signed=signed)
    theirs = MixedC(small, wide, place, signed)
    assert ours.pack() == bytes(theirs)
    assert Mixed.unpack(bytes(theirs)) == ours


def test_text_shows_addresses_in_hexadecimal() -> None:
    assert str(Mixed(place=0x1000, signed=-1)) == "small=7, wide=0, place=0x1000, signed=-1"
    assert repr(Mixed()) == "Mixed(small=7, wide=0, place=0x0, signed=0)"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"small": 1 << 32}, "Mixed: small is 4294967296, must fit u32"),
        ({"wide": -1}, "Mixed: wide is -1, must fit u64"),
        ({"signed": 1 << 63}, "Mixed: signed is 9223372036854775808, must fit s64"),
    ],
)
def test_overflow(values: dict[str, int], message: str) -> None:
    with pytest.raises(FieldOverflow, match=f"^{message}$"):
        Mixed(**values).pack()


def test_a_wrong_size_fails_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"^Short: fields fill 4 bytes, must be 8$"):

        class Short(Struct, size=8):
            one: int = s32()

    with pytest.raises(TypeError, match="no field other"):
        Mixed(**{"other": 1})


def test_short_data_counts_as_zero() -> None:
    assert Mixed.unpack(b"\1") == Mixed(small=1)
    assert pack_array([Mixed(), Mixed(small=1)])[32:36] == b"\1\0\0\0"


def test_request_numbers() -> None:
    assert VERSION.request == 0xC0406400
    assert GEM_CLOSE.request == 0x40086409
    parts = request_fields(VERSION.request)
    assert (parts.read, parts.write, parts.size, chr(parts.group), parts.number) == (
        True, True, 64, "d", 0,
    )  # fmt: skip


def test_decode() -> None:
    assert GENERIC.decode(GEM_CLOSE.request, b"\5") == "drm GEM_CLOSE(handle=5, pad=0)"
    assert GENERIC.decode(0x40086441, b"\1\2") == (
        "drm unknown ioctl 0x40086441 (w, group 'd', number 0x41, 8 bytes: 0102)"
    )
    only = Uapi("x", (Ioctl("NOTHING", "", 1, Mixed, "x"),))
    assert only.find(GEM_CLOSE.request) is None
