"""Declarations of registers and descriptors: values, texts, and refused declarations."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import FieldOverflow
from teflon_common.registers import Block, Descriptor, Register, bits


class Kind(enum.IntEnum):
    NONE = 0
    MAX = 2


class Layer(Descriptor, words=2):
    layer_type: bool = bits(1)
    kind: Kind = bits(3)
    size: int = bits(14, minus=1)
    offset: int = bits(14, signed=True)
    address: int = bits(31, 6, word=1)
    low: int = bits(5, 0, word=1)


@given(
    st.booleans(),
    st.integers(1, 1 << 14),
    st.integers(-(1 << 13), (1 << 13) - 1),
    st.integers(0, 63),
)
def test_a_descriptor_survives_its_bytes(flag: bool, size: int, offset: int, low: int) -> None:
    layer = Layer(layer_type=flag, kind=Kind.MAX, size=size, offset=offset, address=77, low=low)
    assert Layer.from_bytes(layer.to_bytes()) == layer
    assert layer.pack()[1] == 77 << 6 | low


def test_text_and_unknown_enum_values() -> None:
    assert str(Layer(kind=Kind.MAX, size=3)) == "Layer kind=MAX size=3"
    assert str(Layer.unpack((7 << 1, 0))) == "Layer kind=7"


def test_a_descriptor_overflow_names_the_field() -> None:
    with pytest.raises(FieldOverflow, match=r"^Layer: offset is 8192, must fit 14 signed bits$"):
        Layer(offset=8192).pack()


def test_descriptors_must_fill_their_words() -> None:
    with pytest.raises(TypeError, match=r"Short: fields fill 30 bits of 32$"):

        class Short(Descriptor, words=1):
            value: int = bits(30)

    with pytest.raises(TypeError, match=r"Straddle: b takes bits 40:20, must lie within one word$"):

        class Straddle(Descriptor, words=2):
            a: int = bits(20)
            b: int = bits(21)
            c: int = bits(23)


def test_overlapping_fields_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Twice: b overlaps a in bit 3$"):

        class Twice(Register, offset=4):
            a: int = bits(3, 0)
            b: int = bits(7, 3)


class Shape(Register):
    LOW: int = bits(3, 0)


def test_a_register_has_the_fields_that_it_inherits() -> None:
    class Wide(Shape, offset=8):
        HIGH: int = bits(31, 28, minus=1)

    class Two(Block, target=0x0300):
        class FIRST(Shape, offset=0):
            pass

        class SECOND(Wide, offset=4):
            pass

    assert [f.name for f in Two.FIRST.fields] == ["LOW"]
    assert [f.name for f in Two.SECOND.fields] == ["LOW", "HIGH"]
    assert Two.SECOND(LOW=5, HIGH=3).pack() == 0x20000005
    assert str(Two.SECOND.unpack(0x20000105)) == "Two.SECOND LOW=5 HIGH=3 rest=#00000100"
    assert (Two.FIRST.block, Two.FIRST.offset) == (Two, 0)


def test_inherited_fields_may_not_overlap() -> None:
    with pytest.raises(TypeError, match="HIGH overlaps LOW in bit 3"):

        class Wrong(Shape, offset=0):
            HIGH: int = bits(5, 3)


def test_a_register_of_a_block_needs_an_offset() -> None:
    with pytest.raises(TypeError, match=r"^Unit: FIRST has no offset, must have one$"):

        class Unit(Block, target=1):
            class FIRST(Shape):
                pass


def test_two_registers_at_one_offset_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^Unit: B and A are both at #0004$"):

        class Unit(Block, target=1):
            class A(Register, offset=4):
                a: int = bits(3, 0)

            class B(Register, offset=4):
                b: int = bits(3, 0)
