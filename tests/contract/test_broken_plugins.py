"""The broken twins of tests/plugins, installed for real beside the drivers that work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from teflon.devices import open_device
from teflon.errors import DriverUnavailable
from teflon.plugins import discover
from tests.paths import ROOT

BROKEN = sorted((ROOT / "tests" / "contract" / "plugins").glob("broken_*"))

REASONS = {
    "broken_exit": "SystemExit: usage: broken MODEL",
    "broken_hook": "PluginValidationError: unknown hook 'teflon_drivers' in plugin <module 'teflo",
    "broken_import": "ImportError: libbroken.so.3: cannot open shared object file",
    "broken_name": "the driver name 'rocket' is taken by 'NPU of the Rockchip RK3588",
    "broken_requirement": "ImportError: it requires teflon-no-such-package>=2, which is not",
    "broken_version": "is written for interface 9.1, must be 1.0 to 1.4",
}
"""Entry point -> how its reason begins."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed plugins, like `site-packages`."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         "--no-index", "--disable-pip-version-check", "--target", target, *BROKEN],
        check=True,
    )  # fmt: skip
    return target


def teflon(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the twins on the path."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    environment.pop("TEFLON_DEVICE", None)
    return subprocess.run(
        [sys.executable, "-c", "from teflon.cli import main; raise SystemExit(main())", *arguments],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_every_broken_plugin_is_listed_with_its_reason(folder: Path) -> None:
    found = json.loads(teflon(folder, "devices", "--json").stdout)
    assert set(found["broken"]) == set(REASONS)
    for name, reason in REASONS.items():
        assert found["broken"][name].startswith(reason)
    drivers = {d["name"]: d for d in found["drivers"]}
    assert {"cpu", "rocket", "broken_probe"} <= set(drivers)
    (node,) = drivers["broken_probe"]["nodes"]
    assert node["problem"] == "the driver's probe failed, OSError: /: no bus of this kind"
    assert {p.name for p in BROKEN} == {*REASONS, "broken_probe"}


def test_other_plugins_still_work(folder: Path) -> None:
    done = teflon(folder, "run", "digits_int8", "--device", "cpu")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*REASONS, "broken_probe"])
def test_a_broken_driver_that_is_named_is_an_error(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    discover.cache_clear()
    reason = REASONS.get(name, "the driver's probe failed, OSError: /: no bus of this kind")
    try:
        with pytest.raises(DriverUnavailable) as caught:
            open_device(name)
        begin = (
            "device broken_probe: " if name == "broken_probe" else f"{name}: the driver is broken: "
        )
        assert str(caught.value).startswith(begin + reason)
    finally:
        monkeypatch.undo()
        discover.cache_clear()
