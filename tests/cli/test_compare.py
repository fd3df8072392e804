"""`teflon compare`: each layer of a device beside the reference."""

from __future__ import annotations

import json
import re

import pytest

from teflon.cli import main

Capture = pytest.CaptureFixture[str]


def test_compare_shows_every_layer_of_the_npu(capsys: Capture) -> None:
    assert main(["compare", "digits_int8", "--device", "sim:rk3588"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["steps", "differ", "drift", "layer"]
    assert re.fullmatch(r"rocket rk3588: \d+ layers, \d+ equal to the reference,.*", lines[-1])


def test_compare_of_the_reference_with_itself(capsys: Capture) -> None:
    assert main(["compare", "digits_int8", "--device", "cpu"]) == 0
    told = "cpu: there is nothing to compare, all operations ran on the reference\n"
    assert capsys.readouterr().out == told


def test_compare_fails_beyond_the_bound(capsys: Capture) -> None:
    spec = ["--device", "sim:rk3588", "--json"]
    assert main(["compare", "digits_int8", *spec, "--within", "-1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "rocket rk3588"
    assert all(layer["steps"] <= 1 for layer in found["layers"])


def test_compare_needs_a_device_that_runs(capsys: Capture) -> None:
    assert main(["compare", "digits_int8", "--device", "rk3588"]) == 1
    assert capsys.readouterr().err == (
        "teflon: device rk3588: is the description of a chip, must be a device that can run\n"
    )
