"""Ctrl-C at any moment of a command: one line, status 130, complete files or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from teflon_common import recording

MOMENTS = int(os.environ.get("TEFLON_INTERRUPTS", "6"))

# Until the module `entry` has run its first lines, Python itself handles signals
COMMAND = (
    "import os, sys; from teflon import entry; inner = entry._command\n"
    "def command():\n    os.write(1, b'R')\n    return inner()\n"
    "entry._command = command; sys.exit(entry.main())"
)


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", COMMAND, *words], cwd=folder,
        env={**os.environ, "TEFLON_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(1) == b"R"
    return process


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["check", "digits_int8", "--device", "sim:a311d"],
        ["run", "digits_int8", "--device", "sim:rk3588", "-o", "outputs.npz"],
        ["record", "digits_int8", "--device", "sim:rk3588", "-o", "sent.npz"],
        ["compile", "digits_int8", "--device", "a311d", "-o", "digits.teflon"],
    ],
    ids=lambda words: words[0],
)
def test_an_interrupt_at_any_moment(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    begun = time.monotonic()
    whole = start(words, tmp_path)
    whole.communicate(timeout=120)
    assert whole.returncode == 0
    length = time.monotonic() - begun
    codes = set()
    for number in range(MOMENTS):
        for file in (*tmp_path.glob("cache/*"), *tmp_path.glob("*.*")):
            file.unlink()
        process = start(words, tmp_path)
        time.sleep(length * number / MOMENTS)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - sent < 1 + length
        codes.add(process.returncode)
        assert said in (b"", b"teflon: interrupted\n"), said.decode()
        assert process.returncode in (0, 130), said.decode()
        check_files(tmp_path)
    assert 130 in codes


def check_files(folder: Path) -> None:
    for file in folder.glob("*.npz"):
        if file.name == "sent.npz":
            recording.read(file)
        assert file.read_bytes()[:2] == b"PK"
    for file in folder.glob("cache/*.entry"):
        assert file.read_bytes()[:8] == b"TEFLONCA"
    names = {file.name for file in folder.iterdir()} - {"cache", "tmp"}
    assert names <= {"outputs.npz", "sent.npz", "digits.teflon"}


def test_a_background_job_ignores_it(tmp_path: Path) -> None:
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{COMMAND}"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, "--version"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


def test_an_interrupt_in_a_destructor_is_not_lost() -> None:
    program = (
        "import os, signal, sys; from teflon import entry\n"
        "class Thing:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "def command():\n    Thing()\n    return 0\n"
        "entry._command = command; sys.exit(entry.main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "teflon: interrupted\n")
