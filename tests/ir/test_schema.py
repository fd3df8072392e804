"""Tables of fields: what they write they read, and what is wrong they refuse in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.ir.schema import (
    LARGEST,
    Code,
    Each,
    Field,
    Flag,
    Inside,
    Malformed,
    Number,
    Pair,
    Read,
    Real,
    Table,
    Text,
    shown,
)
from teflon.ir.schema_types import tensor_type
from teflon.ir.types import DType, Quantization, TensorType

SCOPE = {"sizes": np.array([64, 0, 1 << 40], np.int64)}


class Row(NamedTuple):
    which: int
    offset: int
    kind: str
    many: int


ROWS = Table(
    "row",
    Row,
    which=Number(of="sizes"),
    offset=Inside("which", "sizes", 8, step=8, count="many"),
    kind=Code(names=("a", "b")),
    many=Number(0, LARGEST),
)


class Mixed(NamedTuple):
    name: str
    ratio: float
    flag: bool
    numbers: tuple[int, ...]
    pairs: tuple[tuple[str, int], ...]


MIXED = Table(
    "thing",
    Mixed,
    name=Text(),
    ratio=Real(-1, float("inf")),
    flag=Flag(),
    numbers=Each(Number(of="sizes")),
    pairs=Each(Pair(Text(("x", "y")), Number(3))),
)


def refusal(read: Callable[[], Any]) -> str:
    """The message if something is malformed, else nothing."""
    try:
        read()
    except Malformed as error:
        return str(error)
    return ""


rows = st.builds(
    Row, st.just(2), st.integers(0, 1 << 30).map(lambda n: 8 * n), st.sampled_from("ab"),
    st.integers(0, 1000),
)  # fmt: skip
mixed = st.builds(
    Mixed, st.text(st.characters(codec="utf-8")), st.floats(-1, allow_nan=False), st.booleans(),
    st.lists(st.integers(0, 2)).map(tuple),
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(3, LARGEST))).map(tuple),
)  # fmt: skip


@given(st.lists(rows))
def test_what_an_array_holds_is_read(objects: list[Row]) -> None:
    assert ROWS.read(ROWS.array(objects), SCOPE) == objects
    assert ROWS.read(ROWS.write(objects), SCOPE) == objects


@given(st.lists(mixed))
def test_what_json_holds_is_read(objects: list[Mixed]) -> None:
    for plain in (MIXED.write(objects), MIXED.write_named(objects)):
        assert MIXED.read(json.loads(json.dumps(plain)), SCOPE) == objects


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12,
)  # fmt: skip


@given(st.lists(mixed, min_size=1), st.data())
def test_whatever_stands_in_a_field_it_is_read_or_malformed(
    objects: list[Mixed], data: st.DataObject
) -> None:
    plain = MIXED.write_named(objects)
    row = data.draw(st.integers(0, len(plain) - 1))
    name = data.draw(st.sampled_from(list(MIXED.fields)))
    plain[row][name] = data.draw(anything)
    if message := refusal(lambda: MIXED.read(plain, SCOPE)):
        assert re.match(rf"^(a thing|thing {row}): ?{name}", message)
    else:
        found = MIXED.read(plain, SCOPE)
        assert len(found) == len(objects)
        assert json.dumps([tuple(one) for one in found]).encode()


@given(anything)
def test_whatever_stands_for_rows_is_read_or_malformed(plain: Any) -> None:
    tables: tuple[Table[Any], ...] = (ROWS, MIXED)
    for table in tables:
        message = refusal(partial(table.read, plain, SCOPE))
        assert "must" in message if message else table.read(plain, SCOPE) == []


@given(st.integers(-(1 << 63), LARGEST), st.integers(-(1 << 63), LARGEST), st.integers(-2, 4))
def test_a_place_is_inside_exactly_if_all_of_it_is(offset: int, count: int, which: int) -> None:
    """No sum or product overflows."""
    array = np.array([[which, offset, 0, count]], np.int64)
    sizes = SCOPE["sizes"].tolist()
    good = 0 <= which < 3 and count >= 0 and offset >= 0 and offset % 8 == 0
    good = good and offset + 8 * count <= sizes[which]
    assert bool(refusal(lambda: ROWS.read(array, SCOPE))) is not good


WRONG: list[tuple[Field, Any, str]] = [
    (Number(2, 5), 1, "is 1, must be a whole number from 2 to 5"),
    (Number(2, 5), True, "is True, must be a whole number from 2 to 5"),
    (Number(0, 9, 4), 2, "is 2, must be a whole number from 0 to 9, a multiple of 4"),
    (Number(of="sizes"), 3, "is 3, must be a whole number from 0 to 2"),
    (Number(), 10**30, "is 1000000000000000000000000000000, must be a whole number from 0 to"),
    (Real(0, 1), float("nan"), "is nan, must be a number from 0 to 1"),
    (Text(("a", "b")), "c", "is 'c', must be one of a, b"),
    (Text(), "\ud800", r"is '\ud800', must be text"),
    (Text(), 5, "is 5, must be text"),
    (Flag(), 1, "is 1, must be true or false"),
    (Each(Flag()), [True, 1], "is [True, 1], must be a list, each true or false"),
    (Each(Flag()), True, "is True, must be a list"),
    (Pair(Flag(), Text()), [True], "is [True], must be (true or false; text)"),
    (Code(names=("a",)), 1, "is 1, must be a whole number from 0 to 0"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_messages(field: Field, value: Any, message: str) -> None:
    table = Table("row", lambda one: one, value=field)
    with pytest.raises(Malformed, match=rf"^row 0: value {re.escape(message)}"):
        table.read([[value]], SCOPE)


def test_the_first_wrong_row_is_named() -> None:
    table = Table("row", lambda *row: row, name=Text(), number=Number(0, 9))
    with pytest.raises(Malformed, match=r"^row 2: number is 10, must be"):
        table.read([["a", 1], ["b", 2], ["c", 10], ["d", 11]])


def test_other_shapes() -> None:
    for plain, message in [
        ({"a": 1}, r"^rows are \{'a': 1\}, must be a list$"),
        ([[1, 2, 3]], "^a row has other fields, must have which, offset, kind, many$"),
        ([{"which": 1}], "^a row has other fields, must have"),
        (np.zeros((2, 3), np.int64), r"^rows are int64\[2, 3\], must be int64 of 4 columns$"),
        (np.zeros((2, 4), np.int32), r"^rows are int32\[2, 4\], must be int64 of 4 columns$"),
    ]:
        with pytest.raises(Malformed, match=message):
            ROWS.read(plain, SCOPE)


def test_a_form_of_its_own() -> None:
    def read(plain: Any) -> int:
        if plain != "one":
            raise Malformed(f"is {shown(plain)}, must be one")
        return 1

    table = Table("row", lambda one: one, value=Read(read, {1: "one"}.get, "one"))
    assert table.read([["one"], ["one"]]) == [1, 1]
    with pytest.raises(Malformed, match=r"^a row: value: is 'two', must be one$"):
        table.read([["one"], ["two"]])


def test_a_long_value_is_cut() -> None:
    assert shown("x" * 1000) == "'" + "x" * 39 + "..."


def test_types() -> None:
    assert tensor_type("i8", [1, 2], [[0.5, 0.25], [0, 1], 1]) == TensorType(
        DType.INT8, (1, 2), Quantization((0.5, 0.25), (0, 1), 1)
    )
    assert tensor_type("other", [], None, True) == TensorType(DType.OTHER, (), None, True)


TYPES: list[tuple[tuple[Any, ...], str]] = [
    (("i9", [1], None), "dtype is 'i9', must be one of u8, i8"),
    ((["u8"], [1], None), r"dtype is ['u8'], must be one of"),
    (("u8", [1] * 33, None), "shape is [1, 1, 1"),
    (("u8", [-1], None), "shape is [-1], must be at most 32 whole numbers of 0 or more"),
    (("f32", [1 << 40, 1 << 40], None), "shape is [1099511627776, 1099511627776], must have at"),
    (("u8", [0, 1 << 40, 1 << 40], None), "shape is [0, 1099511627776, 1099511627776], must have"),
    (("u8", [2], [[1.0], [0], 1]), "axis is 1, must be one of [2]"),
    (("u8", [2], [[1.0], [0], 0]), "has 1 scales and 1 zero points, must have 2"),
    (("u8", [2], [[], [], None]), "has 0 scales and 0 zero points, must have 1"),
    (("u8", [2], [[float("nan")], [0], None]), "scales are [nan], zero points [0], must be finite"),
    (("u8", [2], [[1.0], [1 << 63], None]), "scales are [1.0], zero points [9223372036854775808],"),
    (("u8", [2], 5), "quantization is 5, must be scales, zero points and axis"),
    (("u8", [2], None, 1), "dynamic is 1, must be true or false"),
]


@pytest.mark.parametrize(("parts", "message"), TYPES)
def test_types_that_are_none(parts: tuple[Any, ...], message: str) -> None:
    with pytest.raises(Malformed, match=rf"^{re.escape(message)}"):
        tensor_type(*parts)


@given(anything, anything, anything, anything)
def test_a_type_or_malformed(dtype: Any, shape: Any, quantization: Any, dynamic: Any) -> None:
    for parts in ((dtype, shape, quantization, dynamic), ("u8", [3], quantization, False)):
        message = refusal(partial(tensor_type, *parts))
        assert "must" in message if message else tensor_type(*parts).size_bytes >= 0
