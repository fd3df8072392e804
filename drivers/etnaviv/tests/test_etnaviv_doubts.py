"""The warnings of strategy `mesa`, beside which of Mesa's recorded programs do come out wrong."""

from __future__ import annotations

import re

import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_etnaviv import chips
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.mesa.doubts import doubts
from tests.etnaviv.parity import CHIPS, NAMES, expected_failures, graph_of, recording_of
from tests.paths import needs_shared
from tests.recorded import partitions

LUCKY = {"conv_i5_w5_ic1_oc120_s1_valid_u8", "conv_i80_w5_ic1_oc32_s1_same_u8"}
"""Kernels of section 7.2 that Mesa splits over cores so that they come out right."""
OF_VALUES = "B2"


def numbers(graphs: list[Graph], chip: str) -> set[str]:
    """The numbers that the warnings about some graphs name."""
    said = [text for g in graphs for op in g.ops for text in doubts(op, chips.chip(chip))]
    return {number for text in said for number in re.findall(r"B\d+|7\.2", text)}


@needs_shared
@pytest.mark.parametrize("chip", CHIPS)
def test_what_comes_out_wrong_is_doubted_and_nothing_else(chip: str) -> None:
    wrong = expected_failures(chip)
    assert wrong
    for name in NAMES:
        have = numbers(partitions(recording_of(chip, name), graph_of(name)), chip)
        want = wrong.get(name, "").replace("10.2", "B5")
        if want and want != OF_VALUES:
            assert want in have, name
        elif name not in LUCKY:
            assert have == set(), name


def test_exact_has_no_doubts() -> None:
    b = Builder("int8")
    x = b.input("x", "i8", (1, 5, 7, 4), 0.02, 0)
    y = b.sub(x, b.input("z", "i8", (1, 5, 7, 4), 0.02, 0), scale=0.05, zero_point=0)
    b.output(y)
    graph = b.build()
    have = {
        strategy: EtnavivDevice("a311d", {"strategy": strategy}).doubts(graph.ops[0], graph)
        for strategy in ("exact", "mesa")
    }
    assert have["exact"] == []
    assert [text.split(" (")[0] for text in have["mesa"]] == [
        "int8 is streamed with a shifted zero point, Mesa's B8", "subtraction adds, Mesa's B9",
    ]  # fmt: skip
