"""Discovery of drivers by entry points; broken plugins are listed and do not affect others."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from teflon import devices, plugins
from teflon.devices import open_device
from teflon.errors import DriverUnavailable
from teflon.pipe import Driver
from teflon.plugins import discover, hookimpl
from tests.contract.helpers import FakeDriver
from tests.paths import ROOT

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make modules of functions and their entry points; nothing else is installed then."""
    points: list[EntryPoint] = []

    def put(name: str, module: str = "", **members: Any) -> None:
        made = ModuleType(module or f"fake_{name}")
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, made.__name__, made)
        points.append(EntryPoint(name, made.__name__, plugins.DRIVERS))

    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    discover.cache_clear()
    yield put
    discover.cache_clear()


def hook(driver: object) -> Callable[[], object]:
    @hookimpl
    def teflon_driver() -> object:
        return driver

    return teflon_driver


def make(name: str, **fields: Any) -> Driver:
    return FakeDriver(name, f"driver {name}", (f"{name}1",), **fields)


def test_in_tree_drivers_are_ordinary_plugins() -> None:
    discover.cache_clear()
    assert "cpu" in discover().drivers


def test_a_third_party_driver_is_found_and_used(install: Install) -> None:
    install("good", teflon_driver=hook(make("good")))
    assert list(discover().drivers) == ["good"]
    device, context = open_device("sim:good1")
    assert context is not None
    assert device is context.device


def fail() -> object:
    raise OSError("no such library")


def leave() -> object:
    raise SystemExit(3)


BROKEN = [
    (
        {"teflon_driver": hookimpl(fail)},
        "OSError: no such library",
    ),
    (
        {"teflon_driver": hookimpl(leave)},
        "SystemExit: 3",
    ),
    (
        {"teflon_driver": hook(make("bad", interface="1.0"))},
        "its interface is '1.0', must be a pair of numbers like (1, 4)",
    ),
    (
        {"teflon_driver": hook(make("bad", interface=None))},
        "its interface is None, must be a pair of numbers like (1, 4)",
    ),
    (
        {"teflon_driver": hook(make("auto"))},
        "the driver name 'auto' cannot be used, must be a word other than 'auto'",
    ),
    (
        {"teflon_driver": hook(make("sim:bad"))},
        "the driver name 'sim:bad' cannot be used, must be a word other than 'auto'",
    ),
    (
        {"teflon_driver": hook(None)},
        "TypeError: teflon_driver of bad must return one Driver, is []",
    ),
    (
        {"teflon_driver": hook("rocket")},
        "TypeError: teflon_driver of bad must return one Driver, is ['rocket']",
    ),
    (
        {"teflon_drivr": hook(None)},
        "PluginValidationError: unknown hook 'teflon_drivr' in plugin <module 'zz_bad'>",
    ),
    (
        {"teflon_driver": hook(make("bad", interface=(2, 0)))},
        "is written for interface 2.0, must be 1.0 to 1.4",
    ),
    (
        {"teflon_driver": hook(make("bad", interface=(1, 9)))},
        "is written for interface 1.9, must be 1.0 to 1.4",
    ),
    (
        {"teflon_driver": hook(make("good"))},
        "the driver name 'good' is taken by 'driver good'",
    ),
]


@pytest.mark.parametrize(("members", "reason"), BROKEN, ids=[r[:30] for _, r in BROKEN])
def test_a_broken_plugin_is_listed_and_the_others_work(
    members: dict[str, object], reason: str, install: Install
) -> None:
    install("bad", "zz_bad", **members)
    install("a_good", teflon_driver=hook(make("good")))
    registry = discover()
    assert list(registry.drivers) == ["good"]
    assert registry.broken == {"bad": reason}
    assert open_device("sim:good1")[1] is not None
    (row,) = [r for r in devices.devices() if r.kind == "broken"]
    assert (row.spec, row.problem) == ("bad", reason)
    with pytest.raises(
        DriverUnavailable, match=f"^{re.escape(f'bad: the driver is broken: {reason}')}$"
    ):
        open_device("bad")


def test_a_module_that_is_missing(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good", teflon_driver=hook(make("good")))
    points = [
        EntryPoint(n, m, plugins.DRIVERS) for n, m in (("good", "fake_good"), ("gone", "gone"))
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    registry = discover()
    assert list(registry.drivers) == ["good"]
    assert registry.broken == {"gone": "ModuleNotFoundError: No module named 'gone'"}


def test_discovery_is_done_once(install: Install) -> None:
    install("good", teflon_driver=hook(make("good")))
    assert discover() is discover()


def test_two_broken_plugins_of_one_name_are_both_listed(install: Install) -> None:
    install("bad", "zz_first", teflon_driver=hook(None))
    install("bad", "zz_second", teflon_driver=hook(make("bad", interface=(2, 0))))
    assert list(discover().broken) == ["bad", "bad (zz_second)"]


@pytest.mark.parametrize("name", [n for n in vars(plugins.Hooks) if not n.startswith("_")])
def test_every_hook_has_its_heading_and_signature(name: str) -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    signature = str(inspect.signature(getattr(plugins.Hooks, name))).replace("(self)", "()")
    assert f"### {name}\n\n    {name}{signature.replace(chr(39), '')}\n" in text
