"""Partitions: maximal, executable in order, with reasons; vetoes are respected until stable."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from teflon.compile.partition import NOWHERE, Plan, device_title, partition
from teflon.ir import Graph, Op
from tests.contract.helpers import FakeDevice, chain, wired

NPU = FakeDevice()
CPU = FakeDevice(kinds=("n", "c"), driver="cpu", chip="cpu")


def shape(plan: Plan) -> list[tuple[int, str]]:
    """Return (device, names of results) of every partition."""
    return [(p.device, " ".join(op.results[0].name for op in p.graph.ops)) for p in plan.partitions]


def test_everything_on_the_first_device() -> None:
    plan = partition(chain("n", "n", "n"), [NPU, CPU])
    assert shape(plan) == [(0, "v0 v1 v2")]
    assert plan.devices == ("fake f1", "cpu")
    assert all(not p.reasons for p in plan.placements.values())
    assert plan.partitions[0].graph.name == "chain/0"


def test_the_rest_goes_to_the_next_with_reasons() -> None:
    plan = partition(chain("n", "c", "n"), [NPU, CPU])
    assert shape(plan) == [(0, "v0"), (1, "v1"), (0, "v2")]
    placement = plan.placements[plan.graph.ops[1]]
    assert (placement.device, placement.partition) == (1, 1)
    assert placement.reasons == (("fake f1", "kind is 'c'"),)


def test_partitions_are_maximal_across_branches() -> None:
    graph = wired(
        ("a", "n", "x"), ("b", "c", "x"), ("c", "n", "a"), ("d", "c", "b"), ("e", "n", ["c", "d"]),
        outputs=["e"],
    )  # fmt: skip
    assert shape(partition(graph, [NPU, CPU])) == [(0, "a c"), (1, "b d"), (0, "e")]


def test_no_cycle_between_partitions() -> None:
    """a and c could be one partition only if b ran both after and before it."""
    graph = wired(("a", "n", "x"), ("b", "c", "a"), ("c", "n", ["a", "b"]), outputs=["c"])
    assert shape(partition(graph, [NPU, CPU])) == [(0, "a"), (1, "b"), (0, "c")]


def test_an_operation_that_no_device_runs() -> None:
    plan = partition(chain("n", "z", "n"), [NPU, CPU])
    assert shape(plan) == [(0, "v0"), (NOWHERE, "v1"), (0, "v2")]
    (unplaced,) = plan.unplaced
    assert unplaced.reasons == (("fake f1", "kind is 'z'"), ("cpu", "kind is 'z'"))
    assert plan.device_name(unplaced.device) == "nowhere"


def test_a_veto_moves_the_operation_only() -> None:
    npu = FakeDevice(vetoes={"v1": "not beside v0"})
    plan = partition(chain("n", "n", "n"), [npu, CPU])
    assert shape(plan) == [(0, "v0"), (1, "v1"), (0, "v2")]
    assert plan.placements[plan.graph.ops[1]].reasons == (("fake f1", "not beside v0"),)


class NeedsCompany(FakeDevice):
    """Vetoes the last operation of every partition that is shorter than three."""

    def veto(self, subgraph: Graph) -> dict[Op, str]:
        short = len(subgraph.ops) < 3
        return {subgraph.ops[-1]: "too few neighbours"} if short else {}


def test_vetoes_are_asked_again_until_stable() -> None:
    plan = partition(chain("n", "n", "c", "n", "n", "n"), [NeedsCompany(), CPU])
    assert shape(plan) == [(1, "v0 v1 v2"), (0, "v3 v4 v5")]


class VetoesStrangers(FakeDevice):
    """Names an operation that is not in the partition: a mistake that must not hang us."""

    def veto(self, subgraph: Graph) -> dict[Op, str]:
        return dict.fromkeys(chain("n").ops, "whatever")


def test_a_veto_of_something_else_is_ignored() -> None:
    assert shape(partition(chain("n"), [VetoesStrangers(), CPU])) == [(0, "v0")]


def test_refused_operations_go_to_the_next_device() -> None:
    graph = chain("n", "n")
    plan = partition(graph, [NPU, CPU], [(0, {graph.ops[0]: "does not fit"})])
    assert shape(plan) == [(1, "v0"), (0, "v1")]


def test_titles() -> None:
    assert device_title(CPU) == "cpu"
    assert device_title(NPU) == "fake f1"


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names, rows = ["x"], []
    for n in range(draw(st.integers(1, 12))):
        reads: Sequence[str] = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        rows.append((f"v{n}", draw(st.sampled_from("ncz")), reads))
        names.append(f"v{n}")
    return wired(*rows, outputs=draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)))


@given(graphs(), st.sets(st.integers(0, 11)))
def test_any_graph_can_be_executed_partition_by_partition(graph: Graph, bad: set[int]) -> None:
    npu = FakeDevice(vetoes={f"v{n}": "no" for n in bad})
    plan = partition(graph, [npu, CPU])
    known = set(graph.inputs)
    seen: list[Op] = []
    for part in plan.partitions:
        assert known.issuperset(part.graph.inputs)
        known.update(part.graph.outputs)
        seen.extend(part.graph.ops)
        assert {plan.placements[op].device for op in part.graph.ops} == {part.device}
        assert not list(part.graph.problems())
    assert sorted(map(id, seen)) == sorted(map(id, graph.ops))
    assert known.issuperset(graph.outputs)
    for before, after in zip(plan.partitions, plan.partitions[1:], strict=False):
        assert before.device != after.device or not _could_join(before.graph, after.graph)


def _could_join(before: Graph, after: Graph) -> bool:
    """Neighbouring partitions of one device would be one, had the walk been greedy enough."""
    return bool(set(before.outputs) & set(after.inputs))
