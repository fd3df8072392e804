"""The preload library, by C programs that call what programs call."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.board.helpers import SmallBoard, compiled, killable_board, needs_compiler, small_board

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def shared() -> Iterator[SmallBoard]:
    with small_board() as made:
        yield made


@pytest.fixture
def board(shared: SmallBoard) -> Iterator[SmallBoard]:
    """The board of this module; each test closes what it opens."""
    yield shared
    assert shared.open_files() == 0


def test_files_that_the_board_gives_and_takes(board: SmallBoard) -> None:
    """dma_bufs and sync files: the board gives and takes them, and answers their requests."""
    board.passes("files.c")


def test_paths(board: SmallBoard, tmp_path: Path) -> None:
    """All functions that take a path, from all sides: relative, through links, by descriptor."""
    board.passes("paths.c", tmp_path)


def test_open_nodes(board: SmallBoard) -> None:
    """Requests with all kinds of arguments, mappings, flags, waiting, copies."""
    board.passes("nodes.c")


def test_threads_signals_and_processes(board: SmallBoard) -> None:
    """Requests at once, in signal handlers, of cancelled threads, in children, after exec."""
    board.passes("processes.c")
    assert board.kernel.most >= 20  # requests of one file are answered at once


def test_a_program_without_descriptors(board: SmallBoard) -> None:
    """RLIMIT_NOFILE: what needs no new descriptor on silicon needs none here."""
    board.passes("limits.c")


@pytest.mark.parametrize("when", ["within", "between"])
def test_the_board_is_killed(tmp_path: Path, when: str) -> None:
    """ENODEV at once, in the middle of a request and after it; memory stays."""
    with killable_board(tmp_path) as (board, environment):
        program = subprocess.Popen(
            [compiled("limits.c"), when], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert program.stdout
        if when == "between":
            assert program.stdout.readline() == "ready\n"
            board.kill()
            board.wait(20)
        _, said = program.communicate("\n", timeout=20)
        assert said == "0 bad\n"
        assert board.wait(20) == -signal.SIGKILL
