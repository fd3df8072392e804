"""Estimates: sums, JSON, charts, drivers without a model of time."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from teflon.compile.partition import partition
from teflon.compile.planning import compile_plan
from teflon.errors import DriverUnavailable
from teflon.ir.graph import Graph
from teflon.pipe import Cost, Device, Program
from teflon.timing import chart
from teflon.timing.estimate import COUNTS, RESOURCES, Estimate, Step, estimate
from tests.contract.helpers import FakeDevice, chain


class Modelled(FakeDevice):
    """Every program takes two steps: one on the chip, one on the host."""

    def estimate(self, program: Program) -> Sequence[Cost]:
        return (
            Cost("layer", "npu", {"array": 1.0, "memory": 3.0}, 600, 10, 300.0, 40, 2, 30, 5),
            Cost("convert", "host", {"host": 0.5}, dram_read=7),
        )


def of(graph: Graph, *devices: Device) -> Estimate:
    return estimate(compile_plan(partition(graph, devices)))


def test_costs_of_a_step() -> None:
    cost = Modelled().estimate(Modelled().compile(chain("n")))[0]
    assert cost.total_ms == 4
    assert cost.limit == "memory"
    assert cost.utilisation == 0.5
    nothing = Cost("x", "npu", {"array": 0.0})
    assert (nothing.total_ms, nothing.limit, nothing.utilisation) == (0, "", 0)


def test_partitions_follow_one_another_and_totals_add_up() -> None:
    devices = (Modelled(), FakeDevice(("other",), chip="f2"))
    with pytest.raises(DriverUnavailable, match=r"f2: driver fake has no model of time"):
        of(chain("n", "other", "n"), *devices)
    found = of(chain("n", "n"), Modelled())
    assert [s.cost.name for s in found.steps] == ["layer", "convert"]
    assert found.total_ms == 4.5
    assert found.milliseconds() == {"array": 1, "memory": 3, "launch": 0, "host": 0.5}
    assert found.totals()["dram_read"] == 40, "the host's own traffic is not the chip's"
    assert found.utilisation() == 0.5


costs = st.builds(
    Cost,
    st.text(max_size=5),
    st.sampled_from(["npu", "host"]),
    st.dictionaries(st.sampled_from(RESOURCES), st.floats(0, 1e3)),
    *[st.integers(0, 2**40)] * 2,
    st.floats(0, 1e9),
    *[st.integers(0, 2**40)] * 4,
)


@given(st.lists(costs, max_size=6))
def test_json_says_the_same_as_the_steps(found: list[Cost]) -> None:
    steps = tuple(Step(n, "d", cost) for n, cost in enumerate(found))
    plain = json.loads(json.dumps(Estimate("m", "d", steps).as_dict()))
    assert set(plain) == {"format", "model", "device", "steps", "totals", "remarks"}
    chip = [row for row in plain["steps"] if row["engine"] != "host"]
    for name in COUNTS:
        assert plain["totals"][name] == sum(row[name] for row in chip)
    assert plain["totals"]["ms"] == pytest.approx(sum(row["ms"] for row in plain["steps"]))
    by_resource = plain["totals"]["ms_by_resource"]
    assert sum(by_resource.values()) == pytest.approx(plain["totals"]["ms"])
    for row in plain["steps"]:
        assert sum(row["ms_by_resource"].values()) == pytest.approx(row["ms"])
        assert row["limit"] in ("", *row["ms_by_resource"])


BARS = chart.Bars(
    "a <title>",
    "ms",
    (("first & longest", {"array": 1.0, "memory": 3.0}), ("second", {"host": 2.0, "launch": 0.0})),
)


def test_svg_has_bars_to_scale() -> None:
    root = ElementTree.fromstring(chart.svg(BARS))
    name = "{http://www.w3.org/2000/svg}"
    colours = dict(zip(BARS.parts, chart.COLOURS, strict=False))
    assert BARS.parts == ["array", "memory", "host"]
    boxes = root.findall(f"{name}rect")

    def width(part: str) -> float:
        found = [float(b.get("width", "")) for b in boxes if b.get("fill") == colours[part]]
        return max(w for w in found if w != 12)  # 12: the legend's

    assert width("memory") == pytest.approx(3 * width("array"), abs=0.02)
    assert width("host") == pytest.approx(2 * width("array"), abs=0.02)
    texts = [t.text for t in root.findall(f"{name}text")]
    assert {"a <title>", "first & longest", "ms", "array"} <= set(texts)
    assert "launch" not in texts


def test_png_is_a_picture_of_the_same_size() -> None:
    image = Image.open(io.BytesIO(chart.png(BARS)))
    root = ElementTree.fromstring(chart.svg(BARS))
    assert (str(image.width), str(image.height)) == (root.get("width"), root.get("height"))
    assert len(image.getcolors(1 << 16) or ()) > 3
    assert chart.png(BARS) == chart.png(BARS)


@pytest.mark.parametrize("rows", [(), (("nothing", {"a": 0.0}),), (("tiny", {"a": 1e-9}),)])
def test_charts_with_almost_no_data(rows: tuple[tuple[str, dict[str, float]], ...]) -> None:
    ElementTree.fromstring(chart.svg(chart.Bars("t", "ms", rows)))
    assert chart.png(chart.Bars("t", "ms", rows)).startswith(b"\x89PNG")
