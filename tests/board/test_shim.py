"""The preload library, by C programs that call what programs call."""

from __future__ import annotations

from collections.abc import Iterator

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
