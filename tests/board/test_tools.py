"""Debuggers and sanitisers on a board, by the recipes of docs/virtual-boards.md."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.board.helpers import compiled, needs_compiler, teflon_board
from tests.board.test_foreign import needs

pytestmark = needs_compiler
SAID = "rocket 10500\n"


@needs("strace")
def test_strace_and_the_log() -> None:
    """strace shows messages where a real node has ioctls; --log shows what they say."""
    words = ["strace", "-f", "-e", "trace=sendmsg,connect"]
    done = teflon_board("rk3588", [*words, compiled("probe.c")], "--log")
    assert done.stdout == SAID
    assert "/dev/accel/accel0" in done.stderr
    assert done.stderr.count("sendmsg(") == 2  # OPEN, VERSION
    assert re.search(r"^\d+ /dev/accel/accel0 .*VERSION\(.*name_len=6.*\) = 0$", done.stderr, re.M)


@needs("gdb")
def test_gdb() -> None:
    script = ["-ex", "break main", "-ex", "run", "-ex", "continue"]
    program = compiled("probe.c", "-g")
    done = teflon_board("rk3588", ["gdb", "-q", "-batch", *script, "--args", program])
    assert SAID in done.stdout
    assert "exited normally" in done.stdout


@needs("valgrind")
def test_valgrind() -> None:
    """No false alarm, and a real error is found."""
    words = ["valgrind", "-q", "--error-exitcode=9"]
    done = teflon_board("rk3588", [*words, compiled("probe.c", "-g")])
    assert (done.returncode, done.stdout) == (0, SAID)
    assert "ERROR" not in done.stderr
    assert "Invalid" not in done.stderr
    assert teflon_board("rk3588", [*words, compiled("probe.c", "-g"), "x"]).returncode == 9


@pytest.mark.parametrize(
    ("compiler", "checks"),
    [("gcc", "address,undefined"), ("clang", "address,undefined"), ("gcc", "thread")],
)
def test_sanitisers(compiler: str, checks: str) -> None:
    """Programs with sanitisers run, and their mistakes are found."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} not installed")
    program = compiled("probe.c", "-g", f"-fsanitize={checks}", compiler=compiler)
    environment = {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
    done = teflon_board("rk3588", [program], **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")
    if "address" in checks:
        done = teflon_board("rk3588", [program, "x"], **environment)
        assert "heap-buffer-overflow" in done.stderr
