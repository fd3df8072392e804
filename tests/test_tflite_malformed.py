"""Files that are wrong: every way has a sentence that says where, what is, and what must be."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.frontend import tflite_schema as schema
from teflon.frontend.tflite import read
from teflon.frontend.tflite_emit import table
from teflon.frontend.tflite_flexbuffer import read_map
from tests.tflite_fuzz import outcome
from tests.tflite_tables import code, operator, quantization, relu, root, tensor

GOOD = relu()


def message(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read(data, "bad.tflite")
    return str(caught.value)


def tensors(**changes: Any) -> bytes:
    """A file whose first tensor `x` is changed."""
    return relu(tensors=[tensor("x", **changes), tensor("y")])


def constant(data: Any, **changes: Any) -> bytes:
    """A file whose third tensor `c` is a constant of u8[1, 4], changed."""
    return relu(
        tensors=[tensor("x"), tensor("y"), tensor("c", **{"buffer": 1, **changes})],
        operators=[operator([0, 2], [1], builtin_options=table("AddOptions"))],
        codes=[code("ADD")],
        constants=[np.asarray(data, np.uint8)],
    )


def outside(offset: int, size: int) -> bytes:
    return relu(
        tensors=[tensor("x"), tensor("y"), tensor("c", buffer=1)],
        operators=[operator([0, 2], [1])],
        buffers=[table("Buffer"), table("Buffer", offset=offset, size=size)],
    )


X = "bad.tflite: subgraphs[0]/tensors[0] 'x'"
C = "bad.tflite: subgraphs[0]/tensors[2] 'c'"
OPERATOR = "bad.tflite: subgraphs[0]/operators[0]"
CIRCLE = [operator([1], [2]), operator([2], [1]), operator([0], [3])]

FILES: dict[str, tuple[bytes, str]] = {
    # what it is
    "empty": (b"", "bad.tflite: identifier: is b'', must be b'TFL3' of a .tflite file"),
    "text": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "bad.tflite: identifier: is b'ion ', must be b'TFL3' of a .tflite file (this is a Git LFS"
        " pointer: fetch the file itself with git lfs pull)",
    ),
    "identifier": (
        GOOD[:4] + b"TFL9" + GOOD[8:],
        "bad.tflite: identifier: is b'TFL9', must be b'TFL3' of a .tflite file",
    ),
    "version": (relu(version=2), "bad.tflite: version: is 2, must be 3"),
    "no subgraph": (relu(subgraphs=[]), "bad.tflite: subgraphs: has none, must have at least one"),
    # tensors
    "type": (tensors(type=77), f"{X}/type: is 77, must be below 23"),
    "negative shape": (tensors(shape=(1, -4)), f"{X}/shape: is [1, -4], must not be negative"),
    "huge shape": (
        tensors(shape=(1 << 30, 1 << 30)),
        f"{X}/shape: is [1073741824, 1073741824], must make at most 1099511627776 bytes",
    ),
    "rank": (tensors(shape=(1,) * 33), f"{X}/shape: has 33 dimensions, must have at most 32"),
    "signature": (
        tensors(shape_signature=(-1, 5)),
        f"{X}/shape_signature: is [-1, 5], must be the shape [1, 4] or -1",
    ),
    "signature rank": (
        tensors(shape_signature=(-1,)),
        f"{X}/shape_signature: is [-1], must be the shape [1, 4] or -1",
    ),
    "buffer": (tensors(buffer=5), f"{X}/buffer: is 5, must be below 1, the number of buffers"),
    "external buffer": (
        tensors(external_buffer=1),
        f"{X}/external_buffer: is 1, must be 0 (data in another file is not read)",
    ),
    "constant too short": (
        constant([1, 2, 3]),
        f"{C}/buffer: has 3 bytes, must have 4 for u8[1, 4]",
    ),
    "constant too long": (
        constant([1, 2, 3, 4, 5]),
        f"{C}/buffer: has 5 bytes, must have 4 for u8[1, 4]",
    ),
    "constant of many elements": (
        constant([1, 2, 3, 4], shape=(1 << 20, 1 << 19)),
        f"{C}/buffer: has 4 bytes, must have 549755813888 for u8[1048576, 524288]",
    ),
    "constant of another type": (
        constant([1, 2, 3, 4], type=schema.TENSOR_TYPES.index("FLOAT32")),
        f"{C}/buffer: has 4 bytes, must have 16 for f32[1, 4]",
    ),
    "packed constant": (
        constant([1, 2, 3, 4], type=schema.TENSOR_TYPES.index("INT4")),
        f"{C}/buffer: has 4 bytes, must have 2 for INT4[1, 4]",
    ),
    "bool": (
        constant([0, 1, 2, 0], type=schema.TENSOR_TYPES.index("BOOL")),
        f"{C}/buffer: has a bool of value 2, must be 0 or 1",
    ),
    "outside": (
        outside(len(GOOD) * 9, 4),
        f"bad.tflite: buffers[1]/offset: 4 elements at offset {len(GOOD) * 9} end at"
        f" {len(GOOD) * 9 + 4}, must end within {len(outside(16, 4))} bytes",
    ),
    "outside, size": (
        outside(16, 1 << 62),
        f"bad.tflite: buffers[1]/offset: {1 << 62} elements at offset 16 end at {(1 << 62) + 16},"
        f" must end within {len(outside(16, 4))} bytes",
    ),
    # quantisation
    "zero scale": (
        tensors(quantization=quantization((0.0,))),
        f"{X}/quantization/scale[0]: is 0, must be positive and finite",
    ),
    "negative scale": (
        tensors(quantization=quantization((1, 1, -2, 1), quantized_dimension=1)),
        f"{X}/quantization/scale[2]: is -2, must be positive and finite",
    ),
    "scale nan": (
        tensors(quantization=quantization((float("nan"),))),
        f"{X}/quantization/scale[0]: is nan, must be positive and finite",
    ),
    "scale infinite": (
        tensors(quantization=quantization((float("inf"),))),
        f"{X}/quantization/scale[0]: is inf, must be positive and finite",
    ),
    "number of scales": (
        tensors(quantization=quantization((1, 1, 1), quantized_dimension=1)),
        f"{X}/quantization/scale: has 3 values, must have 1 or 4, the size of axis 1",
    ),
    "axis": (
        tensors(quantization=quantization((1, 1, 1, 1), quantized_dimension=2)),
        f"{X}/quantization/quantized_dimension: is 2, must be an axis of the shape [1, 4]",
    ),
    "negative axis": (
        tensors(quantization=quantization((1, 1, 1, 1), quantized_dimension=-1)),
        f"{X}/quantization/quantized_dimension: is -1, must be an axis of the shape [1, 4]",
    ),
    "zero point": (
        tensors(quantization=quantization(zero_point=(256,))),
        f"{X}/quantization/zero_point[0]: is 256, must be within 0 to 255",
    ),
    "number of zero points": (
        tensors(quantization=quantization((1, 1, 1, 1), (0, 0), quantized_dimension=1)),
        f"{X}/quantization/zero_point: has 2 values, must have 4, as many as scales",
    ),
    # operators
    "opcode index": (
        relu(operators=[operator([0], [1], 3)]),
        f"{OPERATOR}/opcode_index: is 3, must be below 1, the number of operator codes",
    ),
    "operator code": (
        relu(codes=[table("OperatorCode", builtin_code=-4, deprecated_builtin_code=-1)]),
        "bad.tflite: operator_codes[0]/builtin_code: is -1, must not be negative",
    ),
    "custom code": (
        relu(codes=[code("CUSTOM")]),
        "bad.tflite: operator_codes[0]/custom_code: is absent, must be the custom operator's name",
    ),
    "operand": (
        relu(operators=[operator([2], [1])]),
        f"{OPERATOR}/inputs[0]: is 2, must be from -1 to 1, a tensor's number",
    ),
    "operand below": (
        relu(operators=[operator([-2], [1])]),
        f"{OPERATOR}/inputs[0]: is -2, must be from -1 to 1, a tensor's number",
    ),
    "absent result": (
        relu(operators=[operator([0], [-1])]),
        f"{OPERATOR}/outputs[0]: is -1, must be from 0 to 1, a tensor's number",
    ),
    "graph input": (
        relu(inputs=[9]),
        "bad.tflite: subgraphs[0]/inputs[0]: is 9, must be from 0 to 1, a tensor's number",
    ),
    "graph input twice": (
        relu(inputs=[0, 0]),
        "bad.tflite: subgraphs[0]/inputs[1]: is tensor 'x', is listed before; each must be another",
    ),
    "graph input made": (
        relu(inputs=[0, 1]),
        "bad.tflite: subgraphs[0]/inputs[1]: is tensor 'y', which an operator makes; must be one"
        " that none makes",
    ),
    "graph input constant": (
        relu(inputs=[0], tensors=[tensor("x", buffer=1), tensor("y")],
             constants=[np.zeros(4, np.uint8)]),
        "bad.tflite: subgraphs[0]/inputs[0]: is tensor 'x', which has constant data; must have"
        " none",
    ),
    "output from nowhere": (
        relu(tensors=[tensor("x"), tensor("y"), tensor("z")], outputs=[2]),
        "bad.tflite: subgraphs[0]/outputs[0]: is tensor 'z', which must be an input, a constant or"
        " made by an operator",
    ),
    "operand from nowhere": (
        relu(inputs=[]),
        f"{OPERATOR} RELU 'y': reads tensor 'x', which must be an input, a constant or made by an"
        " operator",
    ),
    "two makers": (
        relu(operators=[operator([0], [1]), operator([0], [1])]),
        "bad.tflite: subgraphs[0]/operators[1] RELU 'y': RELU 'y' makes tensor 'y', which RELU 'y'"
        " makes already",
    ),
    "makes a constant": (
        relu(tensors=[tensor("x"), tensor("y", buffer=1)], constants=[np.zeros(4, np.uint8)]),
        f"{OPERATOR} RELU 'y': makes tensor 'y', which has constant data already",
    ),
    "circle": (
        relu(tensors=[tensor(n) for n in "xabyq"], operators=CIRCLE, outputs=[3]),
        f"{OPERATOR} RELU 'b': waits for itself, must not: RELU 'b' -> RELU 'a' -> RELU 'b'",
    ),
    "signature index": (
        relu(signature_defs=[table("SignatureDef", subgraph_index=0,
                                   inputs=[table("TensorMap", name="a", tensor_index=1)])]),
        "bad.tflite: signature_defs[0]/inputs[0]/tensor_index: is 1, must be one of the"
        " subgraph's inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_is_wrong_is_said(name: str) -> None:
    data, text = FILES[name]
    assert message(data) == text


# Offsets: bytes of a good file changed ---------------------------------------------------------


def patched(at: int, form: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(form, data, at, value)
    return bytes(data)


ROOT = root(GOOD)
SIZE = len(GOOD)
VTABLE: int = ROOT.position - struct.unpack_from("<i", GOOD, ROOT.position)[0]


def slot(field: str) -> int:
    """Where the vtable of the root keeps the offset of a field."""
    return VTABLE + 4 + 2 * schema.fields("Model")[field].slot


def field_at(field: str) -> int:
    """Where the root keeps a field."""
    return ROOT.position + int(struct.unpack_from("<H", GOOD, slot(field))[0])


def target(field: str) -> int:
    """Where a field of the root points."""
    return field_at(field) + int(struct.unpack_from("<I", GOOD, field_at(field))[0])


OFFSETS: dict[str, tuple[bytes, str]] = {
    "root": (
        patched(0, "<I", SIZE + 40),
        f": table at offset {SIZE + 40}, must lie within {SIZE} bytes",
    ),
    "vtable": (
        patched(ROOT.position, "<i", ROOT.position + 8),
        f": vtable at offset -8, must lie within {SIZE} bytes",
    ),
    "odd vtable": (
        patched(VTABLE, "<H", 7),
        f": vtable of 7 bytes at offset {VTABLE}, must be even, at least 4 and end within {SIZE}"
        " bytes",
    ),
    "long vtable": (
        patched(VTABLE, "<H", 65534),
        f": vtable of 65534 bytes at offset {VTABLE}, must be even, at least 4 and end within"
        f" {SIZE} bytes",
    ),
    "long table": (
        patched(VTABLE + 2, "<H", 65535),
        f": table of 65535 bytes at offset {ROOT.position}, must have at least 4 and end within"
        f" {SIZE} bytes",
    ),
    "field outside its table": (
        patched(slot("subgraphs"), "<H", 500),
        f"subgraphs: lies at byte 500 of a table of"
        f" {struct.unpack_from('<H', GOOD, VTABLE + 2)[0]} bytes, must lie inside it",
    ),
    "vector outside": (
        patched(field_at("operator_codes"), "<I", 1 << 31),
        f"operator_codes: 4 bytes at offset {field_at('operator_codes') + (1 << 31)}, must end"
        f" within {SIZE} bytes",
    ),
    "vector too long": (
        patched(target("subgraphs"), "<I", 1 << 30),
        f"subgraphs: {1 << 30} elements at offset {target('subgraphs') + 4} end at"
        f" {target('subgraphs') + 4 + (1 << 32)}, must end within {SIZE} bytes",
    ),
    "element outside": (
        patched(target("subgraphs") + 4, "<I", 1 << 31),
        f"subgraphs[0]: table at offset {target('subgraphs') + 4 + (1 << 31)}, must lie within"
        f" {SIZE} bytes",
    ),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_are_checked(name: str) -> None:
    data, text = OFFSETS[name]
    assert message(data) == f"bad.tflite: {text}"


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_every_truncation_is_an_error_or_leaves_out_padding(length: int) -> None:
    try:
        names = [op.where for op in read(GOOD[:length], "cut").ops]
    except ModelError as error:
        names = [str(error)[:5]]
    assert names in (["y"], ["cut: "])


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
