"""The price of an operation: a class, a TFLite row, an example, a case of the conformance kit."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pytest

from teflon.frontend.tflite import operators, schema
from teflon.frontend.tflite.operators.row import Row
from teflon.ir import Op, ops
from teflon.ir.builder_base import Described
from teflon_common.conformance.grid import cases
from tests.ir import examples

CASES = {case.op for case in cases()}
FAMILIES = "teflon/frontend/tflite/operators"


def missing(
    kinds: Iterable[type[Op]], rows: Iterable[Row], shown: Collection[type[Op]],
    tested: Collection[str],
) -> list[str]:  # fmt: skip
    """Return a sentence for everything that an operation still lacks, or has twice."""
    count = Counter(row.kind for row in rows)
    found = []
    for kind in kinds:
        name, family = kind.__name__, kind.__module__.rpartition(".")[2]
        if count[kind] != 1:
            found.append(
                f"ops.{name} has {count[kind]} TFLite rows, must have one in the ROWS of"
                f" {FAMILIES}/{family}.py"
            )
        if kind not in shown:
            found.append(f"ops.{name} has no example, must have a row in tests/ir/examples.py")
        if kind.tflite_name not in tested:
            found.append(
                f"ops.{name} has no case in the conformance kit, must have a row in"
                " teflon_common/conformance/grid_others.py"
            )
    return found


KNOWN = [kind for kind in ops.CLASSES if kind.tflite_name]
"""Those that files have: not OPAQUE, and not what passes make."""


def test_every_operation_has_what_it_needs() -> None:
    assert missing(KNOWN, operators.ROWS, examples.FIRST.keys(), CASES) == []


def test_what_is_missing_is_said() -> None:
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Unknown(Op):
        mnemonic = "unknown"
        tflite_name = "UNKNOWN"

    found = missing([ops.Abs, Unknown], operators.ROWS * 2, [ops.Abs], ["ABS"])
    assert found == [
        "ops.Abs has 2 TFLite rows, must have one in the ROWS of"
        " teflon/frontend/tflite/operators/activation.py",
        "ops.Unknown has 0 TFLite rows, must have one in the ROWS of"
        " teflon/frontend/tflite/operators/test_price.py",
        "ops.Unknown has no example, must have a row in tests/ir/examples.py",
        "ops.Unknown has no case in the conformance kit, must have a row in"
        " teflon_common/conformance/grid_others.py",
    ]


def test_classes_are_found_and_named() -> None:
    for kind in ops.CLASSES:
        assert getattr(ops, kind.__name__) is kind
        assert ops.class_of(kind.mnemonic) is kind
        assert kind.__name__ in ops.__dict__["__all__"]
        assert kind.__doc__
        words = Described.__optional_keys__  # `Builder.op` takes both
        assert words.isdisjoint(field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize("row", operators.ROWS, ids=lambda row: row.name)
def test_rows_speak_the_schema(row: Row) -> None:
    """Names, options and fields of a row are the schema's; no operator has two rows."""
    for name in (row.name, *row.also):
        assert operators.row_of(name, row.is_custom) is row
        assert row.is_custom or name in schema.BUILTIN_OPERATORS
    fields = schema.fields(row.options) if row.options else {}
    assert row.struct.keys() <= fields.keys()


def test_names_of_examples_are_unique() -> None:
    assert len(examples.EXAMPLES) == sum(len(row.forms.split()) for row in examples.ROWS)
    words = Counter(kind.mnemonic for kind in ops.CLASSES)
    assert set(words.values()) == {1}
