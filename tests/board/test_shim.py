"""The preload library, by C programs that call what programs call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.board.helpers import SmallBoard, needs_compiler, small_board

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
