"""The frame of the command line: exit codes, one sentence for every failure, closed pipes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from teflon import cli
from teflon.cli import common
from teflon.errors import ModelError, OptionError


def command_that(act: Callable[[], int]) -> Any:
    class Group:
        @staticmethod
        def register(commands: Any) -> None:
            commands.add_parser("act").set_defaults(run=lambda _options: act())

    return Group


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def act() -> int:
        raise error

    monkeypatch.setattr(cli, "GROUPS", {"fake": ("act",)})
    monkeypatch.setitem(sys.modules, "teflon.cli.fake", command_that(act))
    return cli.main(["act"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ModelError("m.tflite: is empty,\n must not be"), 1, "m.tflite: is empty, must not be"),
        (FileNotFoundError(2, "No such file", "x.npy"), 1, "x.npy: No such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "there is not enough memory for this"),
        (
            KeyError("oops"),
            1,
            "internal error, KeyError: 'oops' (TEFLON_DEBUG=traceback shows where;"
            " please report it)",
        ),
    ],
)
def test_failures_are_one_sentence(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_raising(error, monkeypatch) == code
    assert capsys.readouterr() == ("", f"teflon: {text}\n")


@pytest.mark.parametrize("argv", [[], ["no-such"], ["models"], ["models", "where"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert "usage: teflon" in capsys.readouterr().err


def test_help_and_version_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("teflon 0.")
    assert cli.main(["--help"]) == 0
    assert "devices" in capsys.readouterr().out


@pytest.mark.parametrize("group", cli.GROUPS)
def test_the_table_of_commands_is_right(group: str) -> None:
    """What a group registers is what it is imported for."""
    (action,) = [a for a in cli.parser([group])._actions if isinstance(a.choices, dict)]
    assert tuple(action.choices or ()) == tuple(cli.GROUPS[group])


@pytest.mark.parametrize("command", ["--version", "devices", "delegate-path"])
def test_commands_without_arrays_do_not_import_numpy(command: str) -> None:
    """Half of the time that a command takes to start is numpy and the graphs' operations."""
    script = (
        f"import sys; from teflon.cli import main; main(['{command}'])\n"
        "sys.exit('numpy' in sys.modules or 'teflon.ir.graph' in sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", script], stdout=subprocess.DEVNULL, check=True)


def test_every_command_has_help_and_a_function() -> None:
    top = cli.parser()
    subparsers = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for choice in subparsers._choices_actions:
        assert choice.help, f"teflon {choice.dest} says nothing in teflon --help"


def test_a_closed_pipe_gives_no_traceback(tmp_path: Path) -> None:
    script = (
        "import sys, os; from teflon.cli import main\n"
        "os.close(0)\n"
        "sys.exit(main(['models', 'list']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_driver_options() -> None:
    assert common.driver_options(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(OptionError, match=r"^--option 'strategy': must be NAME=VALUE$"):
        common.driver_options(["strategy"])


def test_mesa_options_keep_colons_of_values() -> None:
    text = "device: sim:rk3588; cache: /tmp/c;"
    assert common.mesa_options(text) == {"device": "sim:rk3588", "cache": "/tmp/c"}
    with pytest.raises(OptionError, match=r"^delegate option 'verbose': must be 'name: value'$"):
        common.mesa_options("verbose")


def test_table_aligns_numbers_right_and_leaves_no_trailing_blanks() -> None:
    text = common.table([("conv", 1234567, ""), ("a", 5, "why")], ("op", "macs", "note"))
    assert text.splitlines() == [
        "op         macs  note",
        "conv  1 234 567",
        "a             5  why",
    ]


def test_colour_only_on_terminals_and_never_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert common.colourful(terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not common.colourful(terminal)
    assert common.paint("plain", "good") == "plain"
