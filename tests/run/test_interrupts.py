"""Ctrl-C during inferences: it reaches the caller soon, and the next inference is right."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from teflon import interrupts, workers
from teflon.ir.types import Array
from teflon.run.queue import FairQueue
from teflon_common.hosted.waiting import Patient

TRIES = os.environ.get("TEFLON_INTERRUPTS", "40")
PROGRAM = Path(__file__).with_name("interrupting.py")


@pytest.mark.parametrize("way", ["call", "submit", "map"])
@pytest.mark.parametrize(
    ("device", "cores"), [("cpu", 1), ("sim:rk3588", 1), ("sim:rk3588", 3), ("sim:a311d", 1)]
)
def test_an_interrupt_at_any_moment_leaves_a_model_that_works(
    device: str, cores: int, way: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), device, str(cores), way, TRIES],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["interrupts"] == int(TRIES)
    assert found["late"] < 1 + 20 * found["usual"]


def interrupted(work: Callable[[], object], after: float = 0.1) -> float:
    """Interrupt a call; return how long after the signal it raised."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(after)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        work()
    late = time.monotonic() - sent[0]
    thread.join()
    return late


def test_a_gate() -> None:
    gate = interrupts.Gate()
    assert not gate.wait(0)
    assert not gate.wait(0.01)
    assert interrupted(gate.wait) < 1
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append(gate.wait(30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    gate.open()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
    assert gate.is_open


def test_an_interrupt_waits_for_what_is_whole() -> None:
    steps: list[str] = []

    def work() -> None:
        with interrupts.whole(), interrupts.whole():
            limit = time.monotonic() + 10
            while not interrupts.came() and time.monotonic() < limit:
                time.sleep(0.01)
            steps.append("done")
        steps.append("not reached")

    assert interrupted(work) < 1
    assert steps == ["done"]
    assert not interrupts.came()
    with interrupts.whole():
        pass


def test_in_other_threads_nothing_is_deferred() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[object] = []

    def work() -> None:
        with interrupts.whole():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_lock_is_taken_for_some_seconds() -> None:
    lock = threading.Lock()
    with interrupts.taken(lock) as free:
        assert free
        with interrupts.taken(lock, 0.01) as again:
            assert not again
        assert lock.locked()
        assert interrupted(lambda: interrupts.taken(lock, 60).__enter__()) < 2
    assert not lock.locked()


def test_a_future_that_is_waited_for() -> None:
    go = threading.Event()
    queue = FairQueue[object]("m", [[lambda: go.wait(30)]])
    running, waiting = queue.put(()), queue.put(())
    assert interrupted(running.result) < 1
    with pytest.raises(TimeoutError):
        running.result(0.01)
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(1)
    go.set()
    assert running.result(30) is True
    queue.close()


def test_what_waits_is_cancelled() -> None:
    go = threading.Event()
    queue = FairQueue[object]("m", [[lambda: go.wait(30)]])
    futures = [queue.put((), stream=n) for n in range(4)]
    while not futures[0].running():
        time.sleep(0.001)
    queue.cancel()
    assert [future.cancelled() for future in futures] == [False, True, True, True]
    go.set()
    queue.close()


def _block(seconds: float) -> None:
    """Block in C, where Python cannot handle a signal."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ctypes.CDLL(None).usleep(int(1e6 * left))


def test_workers_end_what_they_write_and_begin_no_more() -> None:
    ended: list[int] = []

    def work(piece: int) -> None:
        _block(0.5)
        ended.append(piece)

    assert interrupted(lambda: workers.shared(work, range(20))) < 3
    count = len(ended)
    assert 0 < count < 20
    time.sleep(0.6)
    assert len(ended) == count


def test_a_long_call_into_a_runtime_is_left_alone() -> None:
    ended: list[float] = []

    def run(given: Sequence[Array]) -> list[Array]:
        _block(2)
        ended.append(time.monotonic())
        return list(given)

    patient = Patient()
    assert interrupted(lambda: patient(run, [])) < 1
    assert not ended
    array = np.ones(2)
    assert patient(lambda given: list(given), [array])[0] is array
    assert patient(lambda given: list(given), [array])[0] is array  # in this thread
    with pytest.raises(ValueError, match="bad"):
        Patient()(_refuse, [])
    while not ended:
        time.sleep(0.05)


def _refuse(_: Sequence[Array]) -> list[Array]:
    raise ValueError("bad")
