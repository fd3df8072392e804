"""Which device `auto` takes on machines with several nodes, and what looking for one costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.helpers import Door, needs_shim

pytestmark = needs_shim

VPU, ROCKET = "/dev/accel/accel0", "/dev/accel/accel1"
GPU, NPU, OTHER = (f"/dev/dri/renderD{n}" for n in (128, 129, 130))


@pytest.fixture(scope="module")
def machine() -> Iterator[Door]:
    """A machine with two NPUs, another accelerator, and two GPUs."""
    nodes = "other:intel_vpu@accel0,rk3588@accel1,etnaviv:gpu@renderD128,a311d,other:panfrost"
    with Door(nodes) as made:
        yield made


@pytest.fixture
def door(machine: Door) -> Iterator[Door]:
    """The machine with all nodes open to everybody."""
    yield machine
    for node in (VPU, ROCKET, GPU, NPU, OTHER):
        allow(machine, node, True)
        assert machine.left(node) == []


def allow(door: Door, node: str, allowed: bool) -> None:
    (door.root / node.lstrip("/")).chmod(0o666 if allowed else 0)


CHOOSE = """
import json, sys
from teflon.devices import open_device
from teflon.errors import TeflonError
found = []
for spec in sys.argv[1:]:
    try:
        device, context = open_device(spec)
        context.close()
        found.append([device.driver, device.chip])
    except TeflonError as error:
        found.append([type(error).__name__, str(error)])
print(json.dumps(found))
"""


def chosen(door: Door, *specs: str) -> list[list[str]]:
    """Return (driver, chip), or (error, text), for each spec."""
    found: list[list[str]] = json.loads(door.python(CHOOSE, *specs))
    return found


def test_the_order_and_what_overrides_it(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    first, rocket, etnaviv, by_path = chosen(door, "auto", "rocket", "etnaviv", ROCKET)
    assert first == etnaviv == ["etnaviv", "a311d"]  # drivers in alphabetical order
    assert rocket == by_path == ["rocket", "rk3588"]
    monkeypatch.setenv("TEFLON_DEVICE", "rocket")
    assert chosen(door, "auto", NPU) == [["rocket", "rk3588"], ["etnaviv", "a311d"]]


def test_nodes_that_cannot_be_used(door: Door) -> None:
    """No permission, another kernel driver, a GPU: each is passed over, and says why by name."""
    allow(door, NPU, False)
    auto, no_permission, gpu, foreign, other, none = chosen(
        door, "auto", NPU, GPU, VPU, OTHER, "/dev/accel/accel7"
    )
    assert auto == ["rocket", "rk3588"]
    for (kind, text), words in (
        (no_permission, [NPU, "may not be opened by this user", "render"]),
        (gpu, [GPU, "GPU"]),
        (foreign, [VPU, "intel_vpu", "must be driven by rocket"]),
        (other, [OTHER, "no driver knows this node"]),
        (none, ["/dev/accel/accel7", "no driver knows this node", ROCKET]),
    ):
        assert kind == "DriverUnavailable"
        assert [word for word in words if word not in text] == [], text


def test_a_machine_without_a_usable_npu(door: Door) -> None:
    allow(door, NPU, False)
    allow(door, ROCKET, False)
    ((kind, text),) = chosen(door, "auto")
    assert kind == "DriverUnavailable"
    for words in (NPU, ROCKET, GPU, "may not be opened by this user", "sim:rk3588"):
        assert words in text
    shown = door.teflon("devices")
    assert shown.returncode == 0
    assert shown.stdout.count("may not be opened by this user") == 2


PROBE = """
import json, time
from teflon.plugins import discover
drivers = [d for d in discover().drivers.values() if d.name != "cpu"]
def timed(driver):
    before = time.perf_counter()
    driver.probe()
    return time.perf_counter() - before
first = {d.name: timed(d) for d in drivers}
print(json.dumps({d.name: min(timed(d) for _ in range(9)) for d in drivers}))
"""


def test_probing_is_quick_and_opens_nothing_it_need_not(door: Door) -> None:
    """Only etnaviv's nodes are opened, because otherwise NPU and GPU look the same."""

    def opens() -> dict[str, Any]:
        return {node: row["opens"] for node, row in door.obey("status").items()}

    before = opens()
    seconds = json.loads(door.python(PROBE))
    after = opens()
    assert {node: after[node] - before[node] for node in after} == {
        VPU: 0, ROCKET: 0, OTHER: 0, GPU: 10, NPU: 10,
    }  # fmt: skip
    assert set(seconds) >= {"rocket", "etnaviv"}
    assert all(value < 0.02 for value in seconds.values()), seconds


def test_an_npu_that_nobody_can_program_is_named_and_not_taken() -> None:
    """The VIP9000 of the A311D2's class. Ref: docs/hardware/etnaviv_vendor.md, features by chip"""
    with Door("etnaviv:vip9000nano-di-8302@renderD129") as made:
        auto, named = chosen(made, "etnaviv", NPU)
        for kind, text in (auto, named):
            assert kind == "DriverUnavailable"
            assert "it has a scale for each output channel, int8 with zero points" in text
            assert "run models with --device cpu" in text
