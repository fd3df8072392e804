"""Parts of files that were made by hand: constants, calls, composites, state."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from teflon.errors import EncodingError, ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.cut import TfliteOrigin
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, DType, Graph, TensorType, Value, ops
from teflon.ir.graph import Cut
from tests.frontend.tflite.helpers import (
    code,
    model,
    operator,
    relu,
    root,
    tensor,
)
from tests.frontend.tflite.parts import composite, conditional, cut, part, run, table_model
from tests.oracle import AVAILABLE, Oracle


def chain(**more: Any) -> bytes:
    """RELU, FULLY_CONNECTED with weights of 64 KiB, RELU."""
    weights = (np.arange(1 << 16) % 5).astype(np.float32).reshape(4, -1)
    wide = weights.shape[1]
    good: dict[str, Any] = {
        "tensors": [
            tensor("x", (1, wide), "FLOAT32"),
            tensor("a", (1, wide), "FLOAT32"),
            tensor("w", (4, wide), "FLOAT32", buffer=1),
            tensor("b", (1, 4), "FLOAT32"),
            tensor("y", (1, 4), "FLOAT32"),
        ],
        "operators": [operator([0], [1]), operator([1, 2], [3], 1), operator([3], [4])],
        "codes": [code("RELU"), code("FULLY_CONNECTED")],
        "constants": [weights],
        "outputs": (4,),
    }
    return model(**{**good, **more})


def test_only_what_a_part_needs_is_in_it() -> None:
    whole = chain()
    assert len(part(whole, 0).content) < 1000
    assert len(part(whole, 2).content) < 1000
    assert len(part(whole, 1).content) > 1 << 18
    first = root(part(whole, 2).content)
    assert [c.get("builtin_code") for c in first.children("operator_codes")] == [
        schema.BUILTIN_OPERATORS.index("RELU")
    ]


def test_what_passes_have_fused_is_found_between_the_tensors() -> None:
    graph = read(chain(), "test")
    fused = Graph("fused", (graph.ops[0].results[0],), graph.outputs, (graph.ops[1],),
                  origin=graph.origin)  # fmt: skip
    (subgraph,) = root(cut(fused).content).children("subgraphs")
    assert len(list(subgraph.children("operators"))) == 2


def test_parts_that_the_file_has_not() -> None:
    graph = read(chain(), "test")
    made = Value("made", graph.inputs[0].type)
    for inputs, outputs, message in (
        ((), graph.outputs, "test: RELU needs tensor 'x', which is no input of the part"),
        ((made,), graph.outputs, "test: tensor 'made' is not one of the file's (a pass made it)"),
        (graph.inputs, (made,), "test: tensor 'made' is not one of the file's (a pass made it)"),
        (
            (Value("x", TensorType(DType.INT8, (1, 4)), None, 0),),
            graph.outputs,
            "test: tensor 'x' is i8 here and FLOAT32 in the file, must be the same",
        ),
    ):
        with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
            cut(Graph("part", inputs, outputs, (), origin=graph.origin))


def test_a_computed_constant_is_embedded() -> None:
    graph = read(chain(), "test")
    middle = graph.ops[0].results[0]
    data = np.full(middle.shape, 2, np.float32)
    given = Value(middle.name, middle.type, data, middle.index)
    found = cut(Graph("part", (given,), graph.outputs, (), origin=graph.origin))
    (subgraph,) = root(found.content).children("subgraphs")
    assert subgraph.numbers("inputs") == ()
    if AVAILABLE:
        weights = (np.arange(1 << 16) % 5).astype(np.float32).reshape(4, -1)
        (got,) = run_all(found)
        assert np.allclose(got, (weights * 2).sum(1))


def run_all(found: Cut) -> list[Array]:
    oracle = Oracle(found.content)
    oracle.run([])
    return [oracle.tensor(int(n)) for n in found.outputs]


def test_other_shapes_of_inputs_are_written() -> None:
    graph = read(relu(), "test")
    wide = Value("x", TensorType(DType.UINT8, (3, 4), graph.inputs[0].type.quantization), None, 0)
    found = cut(Graph("part", (wide,), graph.outputs, (), origin=graph.origin))
    (subgraph,) = root(found.content).children("subgraphs")
    assert next(iter(subgraph.children("tensors"))).numbers("shape") == (3, 4)


def test_buffers_and_custom_options_behind_the_flatbuffer() -> None:
    def data(offset: int) -> bytes:
        more = dict(large_custom_options_offset=offset, large_custom_options_size=5)
        return relu(
            tensors=[tensor("x"), tensor("y"), tensor("c", (4,), buffer=1)],
            operators=[operator([0, 2], [1], **more)],
            codes=[code("CUSTOM", custom_code="mine")],
            buffers=[table("Buffer"), table("Buffer", offset=offset + 5, size=4)],
        )

    whole = data(len(data(1 << 20)))
    found = part(whole + b"hello" + b"\1\2\3\4", 0)
    small = root(found.content)
    (subgraph,) = small.children("subgraphs")
    (only,) = subgraph.children("operators")
    options = only.vector("custom_options")
    assert options is not None
    assert options.tobytes() == b"hello"
    assert not only.has("large_custom_options_offset")
    contents = [b.vector("data") for b in small.children("buffers")]
    assert [None if c is None else bytes(c) for c in contents] == [None, b"\1\2\3\4"]


def test_scales_of_blocks_come_along() -> None:
    details = table("BlockwiseQuantization", scales=3, zero_points=-1, block_size=2)
    data = model(
        tensors=[
            tensor("x", (1, 4), "FLOAT32"),
            tensor("y", (1, 4), "FLOAT32"),
            tensor("w", (4, 4), "INT4", buffer=1,
                   quantization=table("QuantizationParameters", details=details)),
            tensor("s", (4, 2), "FLOAT16", buffer=2),
        ],
        operators=[operator([0, 2], [1])],
        codes=[code("FULLY_CONNECTED", 6)],
        constants=[np.arange(8, dtype=np.uint8), np.arange(8, dtype=np.float16)],
    )  # fmt: skip
    (subgraph,) = root(part(data, 0).content).children("subgraphs")
    tensors = list(subgraph.children("tensors"))
    named = {t.text("name"): n for n, t in enumerate(tensors)}
    inner = tensors[named["w"]].child("quantization")
    assert inner is not None
    kept = inner.child("details")
    assert kept is not None
    assert (kept.get("scales"), kept.get("zero_points")) == (named["s"], -1)
    assert tensors[named["s"]].get("buffer") > 0


def test_a_field_of_a_newer_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schema.TABLES, "CumsumOptions", "exclusive:bool reverse:bool newer:i32")
    schema.fields.cache_clear()
    schema.slot_count.cache_clear()
    options = table("CumsumOptions", exclusive=True, newer=7)
    data = relu(operators=[operator([0], [1], builtin_options=options)], codes=[code("CUMSUM")])
    monkeypatch.undo()
    schema.fields.cache_clear()
    schema.slot_count.cache_clear()
    with pytest.raises(EncodingError, match=r"CumsumOptions has a field in slot 2, must have no"):
        part(data, 0)


# Control flow ------------------------------------------------------------------------------------


def test_subgraphs_that_are_called_come_along() -> None:
    found = part(conditional(), 0)
    small = root(found.content)
    names = [s.text("name") for s in small.children("subgraphs")]
    assert names == ["main", "branch1", "branch1"]
    assert len(list(small.children("operator_codes"))) == 3
    if AVAILABLE:
        x = np.array([[-1, 2, -3, 4]], np.float32)
        for condition, want in ((True, np.maximum(x, 0)), (False, -x)):
            (got,) = run(found, [np.array([condition]), x])
            assert got.tolist() == want.tolist()


def test_calls_without_end_and_of_nothing() -> None:
    """Files that the reader has refused already."""
    x, z = (Value(n, TensorType(DType.FLOAT32, (1, 4)), None, i) for n, i in (("x", 1), ("z", 3)))
    c = Value("c", TensorType(DType.BOOL, (1,)), None, 0)
    for changes, message in (
        ({"other": 9}, r"^test: .*: name subgraph 9, must be below 4, the number of subgraphs$"),
        ({"other": 0}, r"^test: subgraphs\[0\]/operators\[0\]: calls subgraph 0 inside itself"),
    ):
        origin = TfliteOrigin(conditional(**changes), "test")
        with pytest.raises((ModelError, EncodingError), match=message):
            origin.cut(Graph("part", (c, x), (z,), (), origin=origin))


def kinds(found: Cut) -> list[str]:
    small = root(found.content)
    codes = [
        schema.BUILTIN_OPERATORS[c.get("builtin_code")] for c in small.children("operator_codes")
    ]
    main = next(iter(small.children("subgraphs")))
    return [codes[o.get("opcode_index")] for o in main.children("operators")]


def test_composites_are_what_they_consist_of() -> None:
    """Tensors 4, 5 and 6 are those of the decomposition; 4 is 1 and 6 is 2."""
    origin = TfliteOrigin(composite(), "test")
    kind = TensorType(DType.FLOAT32, (1, 4))
    v = [Value(f"v{n}", kind, None, n) for n in range(7)]

    def between(a: int, b: int) -> list[str]:
        return kinds(origin.cut(Graph("part", (v[a],), (v[b],), (), origin=origin)))

    assert between(0, 3) == ["RELU", "NEG", "ABS", "RELU"]
    assert between(1, 2) == between(4, 6) == between(1, 6) == ["NEG", "ABS"]
    assert between(1, 5) == ["NEG"]
    assert between(5, 3) == ["ABS", "RELU"]
    whole = ops.Opaque(inputs=(v[1],), outputs=(v[2],), kind="STABLEHLO_COMPOSITE", index=1)
    assert kinds(origin.cut(Graph("part", (v[1],), (v[2],), (whole,), origin=origin))) == [
        "NEG", "ABS",
    ]  # fmt: skip


# State -------------------------------------------------------------------------------------------


def test_variable_tensors_stay_variable() -> None:
    data = model(
        tensors=[
            tensor("x", (1, 4), "FLOAT32"), tensor("y", (1, 2), "FLOAT32"),
            tensor("feature", (2, 4), "FLOAT32", buffer=1),
            tensor("time", (2, 3), "FLOAT32", buffer=2),
            tensor("state", (1, 6), "FLOAT32", is_variable=True),
        ],
        operators=[operator([0, 2, 3, -1, 4], [1], builtin_options=table("SVDFOptions", rank=1))],
        codes=[code("SVDF")],
        constants=[np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)],
    )  # fmt: skip
    origin = TfliteOrigin(data, "test")
    f32 = DType.FLOAT32
    x, y = (
        Value("x", TensorType(f32, (1, 4)), None, 0),
        Value("y", TensorType(f32, (1, 2)), None, 1),
    )
    old, new = (Value("state", TensorType(f32, (1, 6)), None, 4) for _ in range(2))
    svdf = ops.Opaque(inputs=(x, old), outputs=(y, new), kind="SVDF", index=0)
    found = origin.cut(Graph("part", (x, old), (y, new), (svdf,), origin=origin))
    assert found.inputs[1] == found.outputs[1]
    (subgraph,) = root(found.content).children("subgraphs")
    assert len(subgraph.numbers("inputs")) == len(subgraph.numbers("outputs")) == 1
    assert [t.get("is_variable") for t in subgraph.children("tensors")].count(True) == 1
    hidden = "test: SVDF needs tensor 'state', which is no input of the part and keeps state"
    with pytest.raises(EncodingError, match=f"^{hidden}$"):
        origin.cut(Graph("part", (x,), (y,), (svdf,), origin=origin))


def test_each_part_fills_its_own_table() -> None:
    origin = TfliteOrigin(table_model(), "test")
    x = Value("x", TensorType(DType.INT64, (2,)), None, 0)
    z = Value("z", TensorType(DType.OTHER, (2,)), None, 4)
    found = origin.cut(Graph("part", (x,), (z,), (), origin=origin))
    assert sorted(kinds(found)) == ["CALL_ONCE", "HASHTABLE", "HASHTABLE_FIND"]
    if AVAILABLE:
        oracle = Oracle(found.content)
        oracle.run([np.array([6, 9], np.int64)])
        assert oracle.tensor(int(found.outputs[0])).tolist() == [b"six", b"none"]
