"""`teflon devices` and `teflon models` on made-up drivers and folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from teflon import plugins
from teflon.cli import main
from teflon.errors import DriverUnavailable
from teflon.pipe import Context, Device, Driver, Node


@dataclass(frozen=True)
class Made(Driver):
    nodes: tuple[Node, ...] = ()

    def probe(self, root: str = "/") -> list[Node]:
        if root == "/broken":
            raise RuntimeError("no sysfs here")
        return list(self.nodes)

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        raise DriverUnavailable(chip)

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        raise DriverUnavailable(node.path)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Node("/dev/accel/accel0", "made", "chip1")
    bad = Node("/dev/accel/accel1", "made", "", "permission denied", "add yourself to render")
    driver = Made("made", "made up", ("chip1", "chip2"), nodes=(good, bad))
    found = plugins.Registry({"made": driver}, {"theirs": "ImportError: no module named x"})
    monkeypatch.setattr(plugins, "discover", lambda: found)


@pytest.mark.usefixtures("registry")
def test_devices_shows_state_reason_and_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "made: made up",
        "  compiles for chip1, chip2",
        "  /dev/accel/accel0: ready, chip1",
        "  /dev/accel/accel1: permission denied",
        "    add yourself to render",
        "theirs: broken plugin",
        "  ImportError: no module named x",
    ]


@pytest.mark.usefixtures("registry")
def test_devices_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [n["usable"] for n in found["drivers"][0]["nodes"]] == [True, False]
    assert found["broken"] == {"theirs": "ImportError: no module named x"}


@pytest.mark.usefixtures("registry")
def test_a_probe_that_raises_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--root", "/broken"]) == 0
    assert "no node: the driver's probe failed, RuntimeError: no sysfs here" in (
        capsys.readouterr().out
    )


def test_real_drivers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert "  cpu: ready" in out
    assert "  simulates sim:rk3588" in out


def test_models_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert "digits_int8" in out
    assert "mobilenet_v1_labels" in out


def test_models_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEFLON_MODELS", str(tmp_path))
    (tmp_path / "yolox.tflite").write_bytes(b"x")
    assert main(["models", "where", "yolox"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'yolox.tflite'}\n"
    assert main(["models", "where", "nothing"]) == 1
    assert capsys.readouterr().err.startswith("teflon: model 'nothing': is not known, must be one")
    assert main(["models", "fetch", "yolox", "nothing"]) == 1
