"""The pass runner: verifies, names, skips, shows."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import pytest

from teflon import debug
from teflon.errors import VerifyError
from teflon.ir import Graph, ops, passes
from teflon.ir.builder import Builder
from teflon.ir.listing import Listing
from teflon.ir.passes import pass_name, run_pipeline
from teflon.ir.text import to_text
from tests.contract.helpers import chain


def drop_last(graph: Graph) -> Graph:
    return dataclasses.replace(
        graph, ops=graph.ops[:-1], outputs=graph.ops[-1].inputs_present, output_names=()
    )


def drop_first(graph: Graph) -> Graph:
    return graph.with_ops(graph.ops[1:])


def nothing(graph: Graph) -> Graph:
    return graph


@dataclass(frozen=True)
class Drop:
    """A pass with options."""

    count: int
    name: str = "drop"

    def __call__(self, graph: Graph) -> Graph:
        for _ in range(self.count):
            graph = drop_last(graph)
        return graph


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(debug, "log", lines.append)
    return lines


def switch_on(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(debug, "enabled", lambda flag: flag in flags)


def test_passes_run_in_order() -> None:
    seen: list[tuple[str, int]] = []
    graph = run_pipeline(
        chain(*"abcd"),
        [drop_last, nothing, Drop(2)],
        observer=lambda name, g: seen.append((name, len(g.ops))),
    )
    assert [op.where for op in graph.ops] == ["v0"]
    assert seen == [("drop_last", 3), ("drop", 1)]


def test_a_broken_invariant_names_the_pass() -> None:
    expected = r"^after drop_first: test_plus 'v1': reads 'v0' before anything made it$"
    with pytest.raises(VerifyError, match=expected):
        run_pipeline(chain("a", "b"), [nothing, drop_first])


def test_skip_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEFLON_SKIP_PASSES", "drop, other")
    assert len(run_pipeline(chain(*"abc"), [drop_last, Drop(1)]).ops) == 2
    assert len(run_pipeline(chain(*"abc"), [drop_last, Drop(1)], skip=["drop_last"]).ops) == 2
    assert len(run_pipeline(chain(*"abc"), [drop_last, Drop(1)], skip=[]).ops) == 1


def test_a_skipped_pass_is_not_called() -> None:
    assert len(run_pipeline(chain("a", "b"), [drop_first], skip=["drop_first"]).ops) == 2


def test_debug_passes(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    switch_on(monkeypatch, "passes")
    run_pipeline(chain("a", "b"), [drop_last, nothing], skip=["nothing"])
    assert log[0].startswith("pass drop_last: 2 -> 1 operations, ")
    assert log[1:] == ["pass nothing: skipped"]


def test_debug_ir_shows_what_changed(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    switch_on(monkeypatch, "ir")
    run_pipeline(chain("a", "b"), [nothing, drop_last])
    (text,) = log
    assert text.startswith('# after drop_last\ngraph "chain" {\n  input %x: u8[4]\n')


def test_names() -> None:
    assert pass_name(nothing) == "nothing"
    assert pass_name(Drop(1)) == "drop"
    assert pass_name(functools.partial(nothing)) == "partial"


def test_operations_keep_their_class_attributes() -> None:
    """Passes rely on dataclass replacement: every class allows it."""
    for kind in ops.CLASSES:
        assert dataclasses.is_dataclass(kind)


def test_debug_roundtrip_goes_on_with_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    switch_on(monkeypatch, "roundtrip")
    builder = Builder("g")
    x = builder.input("x", "i8", (1, 4, 4, 2), scale=0.5)
    builder.output(builder.relu(x))
    made = dataclasses.replace(builder.build(), listing=Listing((), ()))

    def again(graph: Graph) -> Graph:
        return graph.with_ops(graph.ops)

    read = run_pipeline(made, [again])
    assert to_text(read) == to_text(made)
    assert read.ops[0] is not made.ops[0]
    assert read.listing is made.listing
    assert run_pipeline(made, [nothing]) is made


def test_debug_roundtrip_finds_what_the_text_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    switch_on(monkeypatch, "roundtrip")
    graph = chain("a")
    renamed = dataclasses.replace(graph, name="other")
    monkeypatch.setattr(passes, "parse", lambda text, where: renamed)
    with pytest.raises(VerifyError, match=r"after drop_last: line 1 .*'graph \"chain\" \{'"):
        run_pipeline(chain("a", "b"), [drop_last])


def test_debug_roundtrip_finds_a_text_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    switch_on(monkeypatch, "roundtrip")
    monkeypatch.setattr(passes, "to_text", lambda graph: "graph {")
    with pytest.raises(VerifyError, match=r"after drop_last: the graph's text cannot be read back"):
        run_pipeline(chain("a", "b"), [drop_last])
