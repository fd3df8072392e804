"""The warnings of strategy `mesa`, beside which of Mesa's recorded programs do come out wrong."""

from __future__ import annotations

from teflon.ir.builder import Builder
from teflon_rocket.device import RocketDevice
from teflon_rocket.mesa.doubts import doubts
from tests.paths import ROOT, needs_shared
from tests.recorded import expected_failures, partitions
from tests.rocket.parity import NAMES, read

SAID = {
    "int8": "int8 is taken for uint8",
    "one-to-one": "a map of one channel in and out is never uploaded",
    "one-channel-add": "one channel at an addition is scaled by 0.988",
    "non-square": "height and width are exchanged",
    "addition-clamp": "",  # those two depend on values
    "pad-value": "",
}


def expected() -> dict[str, set[str]]:
    """Recording -> what its warnings must say."""
    path = ROOT / "drivers/rocket/ci/rocket-rk3588-recordings-fails.txt"
    found: dict[str, set[str]] = {}
    for line in expected_failures(path):
        operation, cause = line.split()
        found.setdefault(operation.split("@")[0], set()).add(SAID[cause])
    return {name: said - {""} for name, said in found.items()}


@needs_shared
def test_what_comes_out_wrong_is_doubted_and_nothing_else() -> None:
    wrong = expected()
    assert len(wrong) > 50
    for name in NAMES:
        graphs = partitions(*read(name))
        texts = {text.split(" (")[0] for g in graphs for op in g.ops for text in doubts(op)}
        assert texts >= wrong.get(name, set()), name
        if name not in wrong:
            assert texts == set(), name


def test_exact_has_no_doubts() -> None:
    b = Builder("int8")
    x = b.input("x", "i8", (1, 5, 7, 4), 0.02, 0)
    b.output(b.add(x, x, scale=0.05, zero_point=0))
    graph = b.build()
    for strategy, count in (("exact", 0), ("mesa", 1)):
        device = RocketDevice("rk3588", {"strategy": strategy})
        assert len(device.doubts(graph.ops[0], graph)) == count
