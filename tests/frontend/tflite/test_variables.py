"""Variables of a file are states of the graph, and keep what LiteRT keeps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import Graph, serial
from teflon.ir.graph import Cut
from teflon.ir.held import HELD, is_held
from teflon.ir.interpreter import run
from teflon.ir.ops import Opaque, Svdf
from teflon.ir.text import parse, to_text
from tests.frontend.tflite.helpers import code, operator, quantization, relu, tensor
from tests.frontend.tflite.runtime import Mixed, interpreter, invoke, random_inputs
from tests.frontend.tflite.structures import (
    composites_with_state,
    in_body,
    loop_with_variable,
    svdf,
)
from tests.frontend.tflite.variables import Plan, Step, file_of, handle, plans
from tests.oracle import needs_oracle
from tests.paths import MODELS, needs_shared

pytestmark = needs_oracle

FRAMES = 3


def frames_agree(data: bytes, frames: int = FRAMES) -> Graph:
    """Run a file here and in LiteRT, frame by frame; return the graph."""
    graph = read(data, "states")
    here, there = Mixed(graph), interpreter(data)
    rng = np.random.default_rng(1)
    outputs = [d["index"] for d in there.get_output_details()]
    for _ in range(frames):
        inputs = random_inputs(graph, rng)
        numbered = dict(zip((v.index for v in graph.inputs), inputs, strict=False))
        wanted = invoke(there, numbered, outputs)
        for have, want in zip(here(*inputs), wanted, strict=True):
            if have.dtype == np.float32:  # a float SVDF adds in another order than TFLite's
                np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(have, want)
    return graph


@given(plans())
@settings(max_examples=60, deadline=None)
def test_any_order_of_reads_and_assignments_keeps_what_litert_keeps(plan: Plan) -> None:
    graph = frames_agree(file_of(plan))
    assert not any(isinstance(op, Opaque) for op in graph.ops)
    assert to_text(parse(to_text(graph))) == to_text(graph)


def _plan(*steps: tuple[str, int, int], filled: tuple[bool, ...] = (True,)) -> Plan:
    return Plan(len(filled), filled, 1, tuple(Step(*s) for s in steps))


def test_a_read_behind_an_assignment_sees_the_new_content() -> None:
    graph = read(file_of(_plan(("read", 0, 0), ("assign", 0, 0), ("read", 0, 0))))
    (state,) = graph.states
    assert (state.name, state.initial.tolist()) == ("box/state0", [10, 11, 12])
    new = graph.outputs[-1]
    assert new is graph.inputs[0]  # what the next frame begins with
    assert graph.outputs[2] is graph.inputs[0]  # what the second read gives


def test_what_is_never_assigned_is_a_constant() -> None:
    graph = read(file_of(_plan(("read", 0, 0))))
    assert graph.states == ()
    assert graph.outputs[0].data is not None


def test_what_is_never_read_is_no_state() -> None:
    graph = read(file_of(_plan(("assign", 0, 0))))
    assert (graph.states, len(graph.outputs)) == ((), 1)


def test_what_is_assigned_before_it_is_read_is_no_state() -> None:
    graph = frames_agree(file_of(_plan(("assign", 0, 0), ("read", 0, 0), filled=(False,))))
    assert graph.states == ()


def test_what_nothing_fills_begins_with_zeros_where_tflite_refuses() -> None:
    graph = read(file_of(_plan(("read", 0, 0), ("assign", 0, 0), filled=(False,))))
    assert [state.initial.tolist() for state in graph.states] == [[0, 0, 0]]


CODES = [code(name) for name in ("RELU", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")]


def _stored(kind: Any, other: Any, *operators: Any) -> bytes:
    """A file whose variable is read as `y` and assigned the input `x`, of two types."""
    options = table("VarHandleOptions", shared_name="v")
    return relu(
        tensors=[tensor("x", **kind), tensor("y", **other), tensor("h", (), "RESOURCE")],
        operators=[operator([], [2], 1, builtin_options=options), *operators],
        codes=CODES,
    )


READ, ASSIGN = operator([2], [1], 2), operator([2, 0], [], 3)


def test_int8_begins_with_its_zero_point() -> None:
    kind = {"kind": "INT8", "quantization": quantization((0.5,), (7,))}
    graph = read(_stored(kind, kind, READ, ASSIGN))
    assert graph.states[0].initial.tolist() == [[7, 7, 7, 7]]


def test_bytes_are_kept_where_the_quantisation_differs() -> None:
    kinds = [{"kind": "INT8", "quantization": quantization((s,))} for s in (0.5, 0.25)]
    graph = read(_stored(*kinds, READ, ASSIGN))
    assert graph.outputs[-1].type == graph.inputs[-1].type
    here = Mixed(graph)
    x = np.array([[1, -2, 3, -128]], np.int8)
    here(x)
    np.testing.assert_array_equal(here(x)[0], x)
    frames_agree(_stored(*kinds, ASSIGN, READ))


def test_a_variable_that_changes_its_shape_makes_the_file_one_operation() -> None:
    data = _stored({"kind": "FLOAT32"}, {"kind": "FLOAT32", "shape": (2, 2)}, ASSIGN, READ)
    graph = read(data)
    assert [(op.kind, op.reason) for op in graph.ops if isinstance(op, Opaque)] == [
        ("MODEL", "variable 'v' changes its type or its shape")
    ]
    frames_agree(data)


def test_a_variable_in_a_loop_makes_the_file_one_operation() -> None:
    (op,) = read(loop_with_variable()).ops
    assert isinstance(op, Opaque)
    assert op.kind == "MODEL"
    assert op.reason == "WHILE 'y' uses variables in the subgraphs it calls"
    frames_agree(loop_with_variable())


def test_what_a_whole_file_keeps_is_a_state_without_elements() -> None:
    graph = read(loop_with_variable())
    (state,) = graph.states
    (op,) = graph.ops
    assert (state.initial.size, len(graph.given), len(graph.returned)) == (0, 1, 1)
    assert (op.operands, op.results) == (graph.inputs, graph.outputs)
    assert [v.name for v in graph.values if is_held(v)] == ["MODEL keeps", "MODEL keeps/new"]
    assert graph.origin is not None
    assert graph.origin.cut(graph) == Cut(loop_with_variable(), (0, HELD), (1, HELD))
    again = parse(to_text(graph))
    assert to_text(again) == to_text(graph)
    plain = serial.encode(graph, lambda value: value.shape)
    back = serial.decode(
        json.loads(json.dumps(plain)), lambda shape, kind: np.empty(shape, kind.dtype.numpy)
    ).verify()
    assert to_text(back) == to_text(graph)
    with pytest.raises(ModelError, match=r"^tensor 'x'|^tensor 'MODEL keeps'"):
        write(graph)


def test_a_whole_file_that_keeps_nothing_has_no_state() -> None:
    """The variable in the loop is only read."""
    data = loop_with_variable(assigns=False)
    graph = read(data)
    assert [op.kind_name for op in graph.ops] == ["MODEL"]
    assert graph.states == ()


@pytest.mark.parametrize("count", [1, 2])
def test_composites_with_variable_tensors_stay_operators(count: int) -> None:
    """LiteRT forgets what is in them, so that it must not become a state."""
    graph = frames_agree(composites_with_state(count))
    assert [op.kind_name for op in graph.ops] == ["STABLEHLO_COMPOSITE"] * count
    assert graph.states == ()


def test_call_once_may_compute_what_it_stores() -> None:
    """CALL_ONCE stores RELU of a constant."""
    names = ("RELU", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
    f = {"kind": "FLOAT32"}
    filling = table(
        "SubGraph",
        tensors=[tensor("h", (), "RESOURCE"), tensor("c", buffer=1, **f), tensor("d", **f)],
        inputs=[], outputs=[],
        operators=[in_body(0), operator([1], [2], 0), operator([0, 2], [], 3)],
    )  # fmt: skip
    once = table("CallOnceOptions", init_subgraph_index=1)
    data = relu(
        tensors=[tensor("x", **f), tensor("y", **f), tensor("h", (), "RESOURCE")],
        operators=[operator([], [], 4, builtin_options=once), in_body(2), READ, ASSIGN],
        codes=[code(n) for n in names],
        constants=[np.array([[-1, 2, -3, 4]], np.float32)],
        extra=[filling],
    )
    assert frames_agree(data).states[0].initial.tolist() == [[0, 2, 0, 4]]


def test_a_variable_tensor_is_a_state_that_operations_pass_on() -> None:
    """Two SVDF share one variable tensor: the second reads what the first left."""
    data = svdf(shared_state=True)
    graph = frames_agree(data)
    first, second = (op for op in graph.ops if isinstance(op, Svdf))
    assert second.state is first.outputs[1]
    assert first.state is graph.inputs[1]
    assert graph.outputs[1] is second.outputs[1]
    assert [v.index for v in (graph.inputs[1], *first.outputs[1:], *second.outputs[1:])] == [4] * 3
    assert frames_agree(svdf(shared_state=False)).states[1].name == "state2"


def test_an_output_may_be_a_variable_tensor() -> None:
    f = {"kind": "FLOAT32"}
    data = relu(
        tensors=[tensor("x", **f), tensor("y", **f), tensor("s", is_variable=True, **f)],
        outputs=[1, 2],
    )
    frames_agree(data)


def test_handles_of_tables_stay_operations() -> None:
    """HASHTABLE and HASHTABLE_FIND are left to the runtime; CALL_ONCE, which fills, disappears."""
    options = table("HashtableOptions", table_id=4, key_dtype=_code("INT64"),
                    value_dtype=_code("INT64"))  # fmt: skip
    names = ("HASHTABLE", "HASHTABLE_IMPORT", "HASHTABLE_FIND", "CALL_ONCE")
    filling = table(
        "SubGraph",
        tensors=[tensor("t", (1,), "RESOURCE"), tensor("keys", (2,), "INT64", buffer=1),
                 tensor("values", (2,), "INT64", buffer=2)],
        inputs=[], outputs=[],
        operators=[operator([], [0], 0, builtin_options=options), operator([0, 1, 2], [], 1)],
    )  # fmt: skip
    once = table("CallOnceOptions", init_subgraph_index=1)
    data = relu(
        tensors=[tensor("x", (4,), "INT64"), tensor("y", (4,), "STRING"),
                 tensor("t", (1,), "RESOURCE"), tensor("other", (), "STRING")],
        operators=[operator([], [], 3, builtin_options=once),
                   operator([], [2], 0, builtin_options=options), operator([2, 0, 3], [1], 2)],
        codes=[code(n) for n in names],
        inputs=[0, 3],
        constants=[np.array([1, 2], np.int64), np.array([3, 4], np.int64)],
        extra=[filling],
    )  # fmt: skip
    assert [op.kind for op in read(data).ops if isinstance(op, Opaque)] == [
        "HASHTABLE", "HASHTABLE_FIND",
    ]  # fmt: skip


def _code(name: str) -> int:
    return schema.TENSOR_TYPES.index(name)


@needs_shared
@pytest.mark.parametrize("name", ["hey_jarvis", "alexa", "vad"])
def test_wake_words_are_litert_s_frame_by_frame(name: str) -> None:
    assert MODELS is not None
    data = (MODELS / "public" / f"{name}.tflite").read_bytes()
    graph = frames_agree(data, frames=8)
    assert not any(isinstance(op, Opaque) for op in graph.ops)
    assert graph.states


def test_the_first_content_is_given_like_any_other_input() -> None:
    graph = read(file_of(_plan(("read", 0, 0), ("assign", 0, 0))))
    x, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert run(graph, [x, zeros])[0].tolist() == [0, 0, 0]


def test_handles_have_their_own_operators() -> None:
    assert handle(3, 1).values["outputs"] == [3]
