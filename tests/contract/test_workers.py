"""Pieces of work in threads."""

from __future__ import annotations

import os
import threading

import pytest

from teflon import workers


def test_every_piece_is_done_and_the_first_one_in_this_thread() -> None:
    seen: dict[int, int] = {}

    def work(piece: int) -> None:
        seen[piece] = threading.get_ident()

    workers.shared(work, range(5))
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert seen[0] == threading.get_ident()
    assert threading.get_ident() not in {seen[n] for n in range(1, 5)}


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_is_raised_after_all_pieces_are_done(bad: int) -> None:
    done: list[int] = []

    def work(piece: int) -> None:
        if piece == bad:
            raise ValueError(f"piece {piece}")
        done.append(piece)

    with pytest.raises(ValueError, match=f"piece {bad}"):
        workers.shared(work, range(3))
    assert sorted(done) == sorted({0, 1, 2} - {bad})


def test_nothing_to_do() -> None:
    workers.shared(pytest.fail, [])


@pytest.mark.parametrize(
    ("count", "parts", "wanted"),
    [
        (0, 2, []),
        (1, 2, [range(1)]),
        (5, 2, [range(3), range(3, 5)]),
        (4, 3, [range(2), range(2, 4)]),
        (6, 1, [range(6)]),
    ],
)
def test_rows(count: int, parts: int, wanted: list[range]) -> None:
    assert workers.rows(count, parts) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_work_goes_on_in_a_forked_process() -> None:
    workers.shared(str, range(3))
    child = os.fork()
    if child == 0:
        done: list[int] = []
        workers.shared(done.append, range(3))
        os._exit(len(done))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
