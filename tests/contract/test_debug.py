"""TEFLON_DEBUG: flags, unknown ones, drivers' own; what is off costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon import debug, plugins, trace
from teflon.compile.cache import cache_for
from teflon.inspect import verbose
from teflon.ir import text
from teflon.pipe import Driver
from teflon.plugins import discover
from teflon.samples import models
from tests.contract.helpers import FakeDriver


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set TEFLON_DEBUG as a new process would find it."""

    def put(names: str) -> None:
        monkeypatch.setenv("TEFLON_DEBUG", names)
        monkeypatch.setattr(debug, "_on", None)
        monkeypatch.setattr(debug, "_reported", set())
        monkeypatch.setattr(debug, "FLAGS", dict(debug.FLAGS))

    put("")
    yield put
    discover.cache_clear()


def test_flags_are_read_once(flags: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    flags(" ioctl, ,passes")
    assert debug.enabled("ioctl")
    assert debug.enabled("passes")
    assert not debug.enabled("ir")
    monkeypatch.setenv("TEFLON_DEBUG", "ir")
    assert not debug.enabled("ir")
    assert debug.active_flags() == {"ioctl", "passes"}


def test_flags_of_a_program_are_added_to_those_of_the_variable(
    flags: Callable[[str], None],
) -> None:
    flags("ioctl")
    debug.enable("verbose,ir")
    assert debug.active_flags() == {"ioctl", "verbose", "ir"}


def test_an_unknown_flag_is_reported_once(
    flags: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    flags("ioctls,trase,xyz")
    for _ in range(2):
        debug.check()
    assert capsys.readouterr().err.splitlines() == [
        "TEFLON_DEBUG: unknown flag 'ioctls' (did you mean ioctl?); TEFLON_DEBUG=help lists all",
        "TEFLON_DEBUG: unknown flag 'trase' (did you mean trace?); TEFLON_DEBUG=help lists all",
        "TEFLON_DEBUG: unknown flag 'xyz'; TEFLON_DEBUG=help lists all",
    ]


def test_drivers_add_flags_before_unknown_ones_are_reported(
    flags: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    flags("rocket-tasks,rocket-task")
    discover.cache_clear()
    assert "rocket-tasks" in discover().drivers["rocket"].debug_flags
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unknown flag 'rocket-task' (did you mean rocket-tasks?)" in err


def test_a_drivers_flag_does_not_replace_ours(flags: Callable[[str], None]) -> None:
    flags("")
    debug.add_flags({"ioctl": "something else", "mine": "my own"})
    assert debug.FLAGS["ioctl"] == "decoded requests to the kernel"
    assert debug.FLAGS["mine"] == "my own"


def test_wrong_flags_break_only_their_driver() -> None:
    driver: Driver = FakeDriver("odd", "an odd one", ("odd1",), debug_flags=["flag"])  # type: ignore[arg-type]
    assert plugins._driver_problem(driver).startswith("debug_flags is ['flag'], must be a mapping")


@pytest.mark.parametrize(
    ("names", "bypasses"),
    [("", False), ("ioctl,trace", False), ("verbose", False), ("roundtrip", True),
     ("ioctl,rocket-tasks", True)],
)  # fmt: skip
def test_flags_about_compiling_bypass_the_cache(
    names: str, bypasses: bool, flags: Callable[[str], None], tmp_path: Path
) -> None:
    flags(names)
    assert debug.bypasses_cache() is bypasses
    assert (cache_for(str(tmp_path)).folder is None) is bypasses


def test_help_lists_every_flag() -> None:
    environment = os.environ | {"TEFLON_DEBUG": "help"}
    script = "import sys; from teflon.cli import main; sys.exit(main(['devices']))"
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stderr.splitlines()]
    assert set(listed) >= {*debug.FLAGS, "rocket-tasks"}
    assert len(listed) == len(set(listed))


class Counted(frozenset[str]):
    """An empty set of flags that counts its lookups."""

    asked = 0

    def __contains__(self, flag: object) -> bool:
        type(self).asked += 1
        return False


def test_a_flag_that_is_off_is_a_set_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "_on", Counted())
    monkeypatch.setattr(Counted, "asked", 0)
    assert not debug.enabled("ioctl")
    assert Counted.asked == 1
    assert trace.span("a") is trace.span("b", number=1)
    assert trace.track("core") == 0
    assert Counted.asked == 4


def test_without_flags_nothing_is_formatted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No text is formatted without a flag, neither while a model is loaded nor while it runs."""

    def refuse(*_: object, **__: object) -> str:
        pytest.fail("a text was formatted without a flag")

    path = models.resolve("digits_uint8")
    with teflon.load(path, "sim:rk3588") as model:  # imports all, so that no patch stays behind
        model(np.zeros(model.inputs[0].shape, model.inputs[0].dtype))
    makers = (
        (debug, "log"), (text, "to_text"), (verbose, "support_table"),
        (verbose, "partition_tables"), (trace, "_span"), (trace, "_labels"),
    )  # fmt: skip
    for module, name in makers:
        monkeypatch.setattr(module, name, refuse)
    for name in (
        "teflon_rocket.device.describe", "teflon_rocket.text.commands.show",
        "teflon_rocket.operations.convolution.Convolution.text",
        "teflon_common.structs.Uapi.decode",
        "teflon.ir.passes.to_text", "teflon.frontend.tflite.reader.listing",
        "teflon.compile.partition._show",
    ):  # fmt: skip
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr(debug, "_on", frozenset())
    with teflon.load(path, "sim:rk3588") as model:
        info = model.inputs[0]
        model(np.zeros(info.shape, info.dtype))
        assert model.graph.listing is None
    assert capsys.readouterr() == ("", "")


def test_lookups_of_an_inference_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful for each request, job and operation; none for each row, weight or pixel."""
    with teflon.load(models.resolve("digits_uint8"), "sim:rk3588") as model:
        info = model.inputs[0]
        array = np.zeros(info.shape, info.dtype)
        model(array)
        monkeypatch.setattr(debug, "_on", Counted())
        monkeypatch.setattr(Counted, "asked", 0)
        model(array)
        assert 0 < Counted.asked < 20 * (len(model.graph.ops) + 1)
