"""onnx's own cases for its operations: those that passed pass, and none comes out wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.frontend.onnx.nodes import LIST, cases, outcome
from tests.frontend.onnx.twins import judged, twins

WRONG: dict[str, str] = {}
"""Cases that come out otherwise than onnx says, with the reason."""

_OLD = "operator set 1: attributes had other meanings"
_OPTIONAL = "an optional as input"

REFUSED = {
    "test_not_2d": _OLD,
    "test_not_3d": _OLD,
    "test_not_4d": _OLD,
    "test_optional_get_element_optional_tensor": _OPTIONAL,
    "test_optional_has_element_tensor_input": _OPTIONAL,
    "test_optional_has_element_optional_input": _OPTIONAL,
}
"""Cases whose file is refused, with the reason."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    return {case.name: outcome(case) for case in cases()}


_SHAPE = "onnx's shape inference tells another shape than the operator makes"

TWINS_WRONG = {"test_stft": _SHAPE, "test_stft_with_window": _SHAPE}
"""Quantised twins that come out more than one step apart, with the reason."""

LEAST_TWINS = 200
"""So many quantised twins are read."""


def test_quantised_twins(record_property: Callable[[str, object], None]) -> None:
    """Each case's node between Q and DQ: at most one step from onnxruntime."""
    wrong: dict[str, list[str]] = {}
    table: dict[str, Counter[str]] = {}
    for twin in twins():
        word, found = judged(twin)
        if sentences := found.wrong():
            wrong[twin.name] = sentences
        table.setdefault(twin.kind, Counter())[word] += 1
    text = "\n".join(f"{kind:<24}{dict(count)}" for kind, count in sorted(table.items()))
    record_property("summary: quantised twins of onnx's node cases", text)
    assert {name: w for name, w in wrong.items() if name not in TWINS_WRONG} == {}
    assert sum(count["read"] for count in table.values()) >= LEAST_TWINS


def test_no_case_is_wrong(outcomes: dict[str, str]) -> None:
    assert {n: w for n, w in outcomes.items() if w.startswith("wrong") and n not in WRONG} == {}
    assert [n for n in WRONG if outcomes.get(n, "wrong") in ("passed", "handed on")] == []


def test_no_case_is_refused(outcomes: dict[str, str]) -> None:
    assert {n: w for n, w in outcomes.items() if w.startswith("refused") and n not in REFUSED} == {}


def test_what_passed_passes(
    outcomes: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    listed = LIST.read_text().split()
    known = [name for name in listed if name in outcomes]  # other versions of onnx have other cases
    assert len(known) > len(listed) * 0.8
    assert [name for name in known if outcomes[name] != "passed"] == []
    counts = Counter(word.split(":")[0] for word in outcomes.values())
    record_property("summary: onnx's node cases", str(dict(counts)))
