"""Graphs that keep something: what the verifier wants of them, what passes and forms do to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError, VerifyError
from teflon.ir import DType, Graph, State, TensorType, Value, ops, serial
from teflon.ir.lower import STANDARD
from teflon.ir.passes import reread, run_pipeline
from teflon.ir.text import parse, to_text
from tests.ir.helpers import differences

TEXT = """graph "sum" {
  input %x: f32[2]
  state %old: f32[2] as "total" = [1.0, 2.0]
  %new: f32[2] = add(%x, %old)
  output %old
  keep %new
}
"""


def adder() -> Graph:
    """A graph that adds each input to what it keeps, and returns what that was before."""
    return parse(TEXT).verify()


def test_the_text_says_what_is_kept() -> None:
    graph = adder()
    assert to_text(graph) == TEXT
    assert [s.name for s in graph.states] == ["total"]
    assert graph.states[0].initial.tolist() == [1, 2]
    assert (graph.input_names, graph.output_names) == (("x", "total"), ("old", "total"))
    assert not graph.states[0].initial.flags.writeable


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  keep %new\n", "", "7:1: graph has 1 states and keeps 0, must keep as many"),
        ("[1.0, 2.0]", "[1.0]", "3:35: state 'total': has 1 elements, must have 2"),
        ("keep %new", "keep %no", "6:8: %no is read before anything made it"),
    ],
)  # fmt: skip
def test_mistakes_in_the_text(old: str, new: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(TEXT.replace(old, new))
    assert str(caught.value) == f"text:{sentence}"


def _kept(graph: Graph, **changes: Any) -> Graph:
    return replace(graph, states=(replace(graph.states[0], **changes),))


def _other_type(graph: Graph) -> Graph:
    other = Value("other", TensorType(DType.FLOAT32, (3,)), np.zeros(3, np.float32))
    return replace(graph, outputs=(graph.outputs[0], other))


BROKEN: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "too many": (
        lambda g: replace(g, states=g.states * 3),
        "has 3 states, must have an input and an output for each",
    ),
    "first content": (
        lambda g: _kept(g, initial=np.zeros(3, np.float32)),
        "state 'total': first content is float32[3], must be f32[2]",
    ),
    "type of the first content": (
        lambda g: _kept(g, initial=np.zeros(2, np.int32)),
        "state 'total': first content is int32[2], must be f32[2]",
    ),
    "new content": (_other_type, "state 'total': 'other' must have the type of 'old'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said(name: str) -> None:
    change, sentence = BROKEN[name]
    with pytest.raises(VerifyError) as caught:
        change(adder()).verify()
    assert str(caught.value) == sentence


def test_a_shape_that_is_not_known_is_for_opaque_operations_alone() -> None:
    text = TEXT.replace("%x: f32[2]", "%x: f32[2] dynamic")
    with pytest.raises(VerifyError) as caught:
        parse(text).verify()
    assert str(caught.value) == (
        "ADD 'new': 'x' has no shape before it is computed, must be left to opaque operations"
    )
    opaque = text.replace("add(%x, %old)", 'opaque([%x, %old]) kind="WHERE"')
    assert to_text(parse(opaque).verify()) == opaque


def test_passes_keep_states_and_what_they_need() -> None:
    graph = run_pipeline(adder(), STANDARD)
    assert [type(op) for op in graph.ops] == [ops.Add]
    assert graph.states == run_pipeline(graph, STANDARD).states
    assert reread(graph, "nothing").states[0].name == "total"


def test_the_first_content_has_a_part_in_the_key_and_its_name_has_none() -> None:
    graph = adder()
    other = _kept(graph, initial=np.zeros(2, np.float32))
    renamed = replace(_kept(graph, name="sum"), input_names=(), output_names=())
    plain = replace(graph, states=())
    keys = [serial.content(g) for g in (graph, other, plain)]
    assert len(set(keys)) == 3
    assert serial.content(renamed) == keys[0]


def test_states_come_back_from_json() -> None:
    graph = adder()
    kept: list[np.ndarray] = []

    def place(value: Value) -> int:
        assert value.data is not None
        kept.append(value.data)
        return len(kept) - 1

    back = serial.decode(serial.encode(graph, place), lambda n, kind: kept[n])
    assert differences(graph, back) == []
    plain = {**serial.encode(graph, place), "states": [["a", 0], ["b", 0], ["c", 0]]}
    with pytest.raises(ValueError, match="3 states and 2 inputs"):
        serial.decode(plain, lambda n, kind: kept[n])


def test_a_state_that_nobody_changes_is_its_own_new_content() -> None:
    value = Value("kept", TensorType(DType.FLOAT32, (2,)))
    graph = Graph("same", (value,), (value,), (), states=(State("kept", np.zeros(2, "f4")),))
    assert list(graph.problems()) == []
    assert to_text(parse(to_text(graph))) == to_text(graph)
