"""Files that describe more than they hold, and the options of custom operators, checked."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.flexbuffer import read_map
from teflon.frontend.tflite.reader import read
from tests.frontend.tflite.helpers import code, message, operator, quantization, relu, root, tensor
from tests.frontend.tflite.mutations import outcome

# Files that describe more than they hold -------------------------------------------------------


def _repeated(owner: str, field: str, first: int, **file: Any) -> bytes:
    """Let every element of a vector of tables from `first + 1` on be the table at `first`."""
    data = bytearray(relu(**file))
    table_ = root(bytes(data))
    if owner == "SubGraph":
        table_ = next(table_.children("subgraphs"))
    elements = [child.position for child in table_.children(field)]
    start = table_._target(schema.fields(owner)[field])
    assert start is not None
    for number in range(first + 1, len(elements)):
        at = start + 4 + 4 * number
        struct.pack_into("<I", data, at, (elements[first] - at) % (1 << 32))
    return bytes(data)


def _many(item: Any, *before: Any) -> list[Any]:
    return [*before, *[item] * 2000]


LONG = np.zeros(4000, np.uint8)
REPEATED: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "names": ("SubGraph", "tensors", 1, {
        "tensors": [tensor("x"), tensor("y" * 4000), *[tensor("z")] * 2000],
    }),
    "scales": ("SubGraph", "tensors", 1, {
        "tensors": [
            tensor("x"),
            tensor("y", (1, 999), quantization=quantization([1] * 999, quantized_dimension=1)),
            *[tensor("z")] * 2000,
        ],
    }),
    "operands": ("SubGraph", "operators", 1, {
        "operators": _many(operator([0], []), operator([0], [1]), operator([0] * 999, [])),
    }),
    "options": ("SubGraph", "operators", 1, {
        "operators": _many(
            operator([0], []), operator([0], [1], 1), operator([0], [], custom_options=LONG)
        ),
        "codes": [code("CUSTOM", custom_code="mine"), code("RELU")],
    }),
    "codes": ("Model", "operator_codes", 1, {
        "codes": _many(code("CUSTOM", custom_code="a"), code("RELU"),
                       code("CUSTOM", custom_code="b" * 4000)),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_listed_many_times_is_refused_before_it_fills_the_memory(name: str) -> None:
    owner, field, first, file = REPEATED[name]
    data = _repeated(owner, field, first, **file)
    found = outcome(data)
    assert found.error.startswith("fuzz: ")
    assert found.error.endswith(
        ": the file refers to the same bytes again and again, must use each about once (it"
        " describes more than it can hold)"
    )
    assert found.defect(len(data)) == ""


def _chain(count: int, last: int) -> bytes:
    """A file of `count` smallest operators one after the other, the last one reading `last`."""
    return relu(
        tensors=[tensor("x"), *[tensor(f"t{i}") for i in range(count)]],
        operators=[
            operator([last], [count]),
            *[operator([i + 1], [i]) for i in range(count - 1, 0, -1)],
        ],
    )


def test_a_circle_of_thousands_of_operators_is_found() -> None:
    start = time.process_time()
    found = message(_chain(2000, 1))
    assert time.process_time() - start < 5
    assert found.endswith("... (2000 operators)")


def test_thousands_of_smallest_operators_are_read() -> None:
    assert len(read(_chain(2000, 0)).ops) == 2000


# Options of custom operators -------------------------------------------------------------------

FLEX: dict[str, tuple[bytes, str]] = {
    "short": (b"\x01\x02", "has 2 bytes, must have at least 3"),
    "width": (b"\0\0\x24\x03", "root is 3 bytes wide, must be 1, 2, 4 or 8"),
    "no map": (b"\x05\x04\x01", "root has type 1, must be a map (9)"),
    "outside": (b"\x09\x24\x01", "1 bytes at offset -10, must lie within 3 bytes"),
    "keys": (b"\x00\x03\x00\x00\x24\x01", "keys are 3 bytes wide, must be 1, 2, 4 or 8"),
    "no end of key": (
        b"\x05\x01\x01\x01\x01\x01\x04\x02\x24\x01",
        "key at offset 0 has no end",
    ),
    "narrow float": (
        b"\x00\x00\x02\x01\x01\x01\x0c\x02\x24\x01",
        "float of 1 byte at offset 5, must be 2, 4 or 8",
    ),
}


@pytest.mark.parametrize("name", FLEX)
def test_custom_options_are_checked(name: str) -> None:
    data, text = FLEX[name]
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        read_map(data)


def _dumps(values: dict[str, Any]) -> bytes:
    flexbuffers: Any = pytest.importorskip("flatbuffers.flexbuffers")
    return bytes(flexbuffers.Dumps(values))


MAPS: dict[str, Callable[[], dict[str, Any]]] = {
    "empty": dict,
    "small": lambda: {"a": 1, "b": -1, "c": True, "d": False, "e": 0.5},
    "wide": lambda: {"a": 1 << 40, "b": -(1 << 40), "c": 0.1, "d": True, "long name": 7},
}


@pytest.mark.parametrize("name", MAPS)
def test_custom_options_are_read(name: str) -> None:
    values = MAPS[name]()
    assert read_map(_dumps({**values, "text": "left out", "list": [1, 2]})) == values
