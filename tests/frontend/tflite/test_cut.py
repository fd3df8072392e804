"""Parts of real files compute what they compute within the file; damaged files are errors."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.errors import EncodingError, ModelError, TeflonError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.copying import SUBGRAPHS
from teflon.frontend.tflite.cut import TfliteOrigin
from teflon.frontend.tflite.emit import Table, table
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, DType, Graph, TensorType, Value, ops
from teflon.ir.graph import Cut
from tests.frontend.tflite.helpers import (
    buffer,
    code,
    model,
    operator,
    relu,
    root,
    tensor,
)
from tests.frontend.tflite.mutations import BYTES_FREE, BYTES_PER_BYTE, damaged, seeds
from tests.oracle import AVAILABLE, Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

CRASHING = ("blockwise_quantized", "keyword_scrambled_8bit")
"""Files on which the runtime ends its process."""


def _files() -> list[Path]:
    found = [*MODELS.rglob("*.tflite")] if MODELS else []
    found += GOLDEN.rglob("*.tflite") if GOLDEN else []
    return sorted(f for f in found if f.stem not in CRASHING and f.parent.name != "odd")


FILES = _files()
BATCHES = [FILES[n::16] for n in range(16)]


def opened(path: Path) -> tuple[Graph, Oracle, list[Array]] | None:
    """Return what is needed to compare; None where reader or runtime refuse the file."""
    try:
        graph = read(path.read_bytes(), path.name)
        oracle = Oracle(path, preserve=True)
        inputs = oracle.random_inputs()
        oracle.run(inputs)
    except (TeflonError, ValueError, RuntimeError):
        return None
    return graph, oracle, inputs


def run(cut: Cut, inputs: list[Array]) -> list[Array]:
    oracle = Oracle(cut.content)
    wanted = {d["index"]: d for d in oracle.inputs}
    given = dict(zip(cut.inputs, inputs, strict=True))
    oracle.run([given[number].reshape(d["shape"]) for number, d in wanted.items()])
    return [oracle.tensor(int(number)) for number in cut.outputs]


def cut(graph: Graph) -> Cut:
    assert graph.origin is not None
    return graph.origin.cut(graph)


def check_part(part: Graph, known: dict[int, Array]) -> bool:
    """Compare a part with the tensors of the whole; False where the file's shapes are not true."""
    inputs = [known.get(v.index) for v in part.inputs]
    wanted = [known.get(v.index) for v in part.outputs]
    ends = zip((*part.inputs, *part.outputs), (*inputs, *wanted), strict=True)
    if any(a is None or a.shape != v.shape for v, a in ends):
        return False
    results = run(cut(part), [a for a in inputs if a is not None])
    for value, found, want in zip(part.outputs, results, wanted, strict=True):
        assert want is not None
        assert found.tobytes() == want.tobytes(), value.name
    return True


@needs_shared
@needs_oracle
@pytest.mark.parametrize("batch", range(16))
def test_whole_files(batch: int) -> None:
    compared = 0
    for path in BATCHES[batch]:
        found = opened(path)
        if found is None:
            continue
        graph, oracle, inputs = found
        inputs += [state.initial for state in graph.states]
        users = graph.outputs[: len(graph.outputs) - len(graph.states)]
        wanted = [oracle.tensor(v.index) for v in users]
        results = run(cut(graph), inputs)[: len(users)]
        for got, want in zip(results, wanted, strict=True):
            assert got.tobytes() == want.tobytes(), path.name
        compared += 1
    assert compared > len(BATCHES[batch]) // 2


@needs_shared
@needs_oracle
@pytest.mark.parametrize("batch", range(16))
def test_single_operations_and_random_parts(batch: int) -> None:
    rng = np.random.default_rng(batch)
    compared = total = 0
    for path in BATCHES[batch]:
        found = opened(path)
        if found is None or found[0].states:  # what is left of a state is not what it was
            continue
        graph, known = found[0], found[1].tensors()
        parts = [graph.subgraph([op]) for op in graph.ops]
        for _ in range(4):
            start, end = sorted(rng.integers(0, len(graph.ops) + 1, 2))
            parts.append(graph.subgraph(graph.ops[start:end]))
        total += len(parts)
        compared += sum(check_part(part, known) for part in parts)
    assert compared > 0.9 * total


@needs_oracle
@pytest.mark.skipif(not AVAILABLE, reason="no TFLite runtime")
def test_the_schema_is_the_runtimes() -> None:
    """A field that the schema lacks would be lost in a copy."""
    source = inspect.getsource(importlib.import_module("ai_edge_litert.schema_py_generated"))
    starts = re.findall(r"def (\w+)Start\(builder\):\s*builder\.StartObject\((\d+)\)", source)
    counts = {name: int(count) for name, count in starts}
    ours = {*schema.TABLES, *schema.EMPTY_TABLES}
    assert len(ours) > 150
    assert {name: schema.slot_count(name) for name in ours} == {name: counts[name] for name in ours}
    pattern = (
        r"def (\w+?)Add\w+\(builder, \w+\):\s*"
        r"builder\.Prepend\w+?Slot\((\d+), [^\n]*?, ([^,\n]+)\)\n"
    )
    defaults = {(t, int(slot)): value for t, slot, value in re.findall(pattern, source)}
    checked = 0
    for name in ours:
        for field in schema.fields(name).values():
            if field.kind in schema.SCALARS:
                told = defaults[name, field.slot]
                value = {"True": 1.0, "False": 0.0}.get(told)
                assert field.default == (float(told) if value is None else value), (name, field)
                checked += 1
    assert checked > 200


def test_every_number_of_a_subgraph_is_followed() -> None:
    named = {
        (name, field)
        for name in schema.TABLES
        if name.endswith("Options")
        for field in schema.fields(name)
        if "subgraph" in field or field == "called_computations"
    }
    assert named == {(name, field) for name, fields in SUBGRAPHS.items() for field in fields}


# Made by hand ------------------------------------------------------------------------------------


def part(data: bytes, *numbers: int) -> Cut:
    """Cut the operations with these numbers."""
    graph = read(data, "test")
    return cut(graph.subgraph([op for op in graph.ops if op.index in numbers]))


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


def branch(kind: int, number: int = 1, **options: Any) -> Table:
    """A subgraph of one operator from tensor 0 to tensor 1."""
    return table(
        "SubGraph",
        tensors=[tensor("in", (1, 4), "FLOAT32"), tensor("out", (1, 4), "FLOAT32")],
        inputs=[0], outputs=[1],
        operators=[operator([0], [1], kind, **options)],
        name=f"branch{number}",
    )  # fmt: skip


def conditional(then: int = 2, other: int = 3, extra: Any = ()) -> bytes:
    """IF over four subgraphs: main, one that nobody calls, RELU, a subgraph that calls RELU."""
    main = table(
        "SubGraph",
        tensors=[
            tensor("c", (1,), "BOOL"), tensor("x", (1, 4), "FLOAT32"),
            tensor("y", (1, 4), "FLOAT32"), tensor("z", (1, 4), "FLOAT32"),
        ],
        inputs=[0, 1], outputs=[3],
        operators=[
            operator([0, 1], [2], 0, builtin_options=table(
                "IfOptions", then_subgraph_index=then, else_subgraph_index=other)),
            operator([2], [3], 2),
        ],
    )  # fmt: skip
    return model(
        codes=[code("IF"), code("RELU"), code("ABS"), code("NEG")],
        subgraphs=[main, branch(2), branch(1), branch(3), *extra],
    )


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


def composite(number: int = 1) -> bytes:
    """RELU, a composite of NEG and ABS, RELU."""
    inner = table(
        "SubGraph",
        tensors=[tensor(n, (1, 4), "FLOAT32") for n in ("p", "q", "r")],
        inputs=[0], outputs=[2],
        operators=[operator([0], [1], 2), operator([1], [2], 3)],
    )  # fmt: skip
    options = table(
        "StableHLOCompositeOptions", name="odd.one", decomposition_subgraph_index=number
    )
    main = table(
        "SubGraph",
        tensors=[tensor(n, (1, 4), "FLOAT32") for n in ("x", "a", "b", "y")],
        inputs=[0], outputs=[3],
        operators=[
            operator([0], [1], 0),
            operator([1], [2], 1, builtin_options_2=options),
            operator([2], [3], 0),
        ],
    )  # fmt: skip
    codes = [code("RELU"), code("STABLEHLO_COMPOSITE"), code("NEG"), code("ABS")]
    return model(codes=codes, subgraphs=[main, inner])


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


def table_model() -> bytes:
    """A hash table that a CALL_ONCE fills, and two operators that look into it."""
    handle = table("HashtableOptions", table_id=7, key_dtype=4, value_dtype=5)
    resource = tensor("h", (1,), "RESOURCE")
    init = table(
        "SubGraph",
        tensors=[
            tensor("h2", (1,), "RESOURCE"), tensor("keys", (2,), "INT64", buffer=1),
            tensor("values", (2,), "STRING", buffer=2),
        ],
        inputs=[], outputs=[],
        operators=[
            operator([], [0], 1, builtin_options=handle),
            operator([0, 1, 2], [], 3, builtin_options=table("HashtableImportOptions")),
        ],
    )  # fmt: skip
    main = table(
        "SubGraph",
        tensors=[
            tensor("x", (2,), "INT64"), resource, tensor("none", (1,), "STRING", buffer=3),
            tensor("y", (2,), "STRING"), tensor("z", (2,), "STRING"),
        ],
        inputs=[0], outputs=[3, 4],
        operators=[
            operator([], [], 0, builtin_options=table("CallOnceOptions", init_subgraph_index=1)),
            operator([], [1], 1, builtin_options=handle),
            operator([1, 0, 2], [3], 2, builtin_options=table("HashtableFindOptions")),
            operator([1, 0, 2], [4], 2, builtin_options=table("HashtableFindOptions")),
        ],
    )  # fmt: skip
    return model(
        codes=[code(n) for n in ("CALL_ONCE", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT")],
        subgraphs=[main, init],
        buffers=[
            table("Buffer"), buffer(np.array([5, 6], np.int64)), buffer(texts(b"five", b"six")),
            buffer(texts(b"none")),
        ],
    )  # fmt: skip


def texts(*words: bytes) -> Array:
    """Return strings as TFLite has them in a buffer: count, offsets, bytes."""
    starts = np.cumsum([4 * (len(words) + 2), *map(len, words)])
    head = np.array([len(words), *starts], "<i4").tobytes()
    return np.frombuffer(head + b"".join(words), np.uint8)


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


# Damaged files -----------------------------------------------------------------------------------

CASES = 800
ENDS = (
    Value("c", TensorType(DType.BOOL, (1,)), None, 0),
    Value("x", TensorType(DType.FLOAT32, (1, 4)), None, 1),
    Value("z", TensorType(DType.FLOAT32, (1, 4)), None, 3),
)
"""Inputs and outputs of `conditional`."""
BROKEN = [*seeds()[:5], conditional(), composite(), table_model(), relu()]


def _parts(graph: Graph) -> Iterator[Graph]:
    yield graph
    for op in graph.ops[:4]:
        yield graph.subgraph([op])


def test_the_files_can_be_cut_before_they_are_damaged() -> None:
    for data in BROKEN:
        for each in _parts(read(data, "test")):
            cut(each)


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_damaged_files_are_cut_or_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = set()
    for _ in range(CASES):
        data = damaged(rng, BROKEN)
        try:
            graph = read(data, "fuzz")
        except ModelError:
            continue
        for each in _parts(graph):
            try:
                found = cut(each)
                outcomes.add("cut")
                assert len(found.content) < BYTES_PER_BYTE * len(data) + BYTES_FREE
            except (EncodingError, ModelError) as error:
                outcomes.add(str(error)[:40])
    assert "cut" in outcomes


def test_the_changes_do_reach_what_only_the_cutter_checks() -> None:
    rng = np.random.default_rng(99)
    origin_errors = set()
    good = conditional()
    for at in range(0, len(good) - 4, 4):
        data = bytearray(good)
        data[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        origin = TfliteOrigin(bytes(data), "fuzz")
        try:
            origin.cut(Graph("part", ENDS[:2], ENDS[2:], (), origin=origin))
        except (EncodingError, ModelError) as error:
            origin_errors.add(str(error)[:40])
    assert len(origin_errors) > 10
