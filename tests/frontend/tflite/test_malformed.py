"""Files that are wrong: every way has a sentence that says where, what is, and what must be."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from tests.frontend.tflite.helpers import code, message, operator, quantization, relu, root, tensor

GOOD = relu()


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
        relu(tensors=[tensor("x", external_buffer=1), tensor("y")], inputs=[]),
        f"{OPERATOR} RELU 'y': reads tensor 'x', whose data is in another file, must be in this one"
        " (external buffers are not read)",
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
    "variable": (
        constant([0, 1, 2, 3], is_variable=True),
        f"{C}/is_variable: is true, must be false for a tensor with constant data",
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
