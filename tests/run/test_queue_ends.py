"""How queues end: closed by several at once, dropped, forked."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
import weakref

import numpy as np
import pytest

import teflon
from teflon.errors import TeflonError
from teflon.run.queue import FairQueue
from teflon.run.runner import Runner
from teflon.samples.models import resolve

PATH = resolve("digits_int8")
IMAGE = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1), np.int8)
TARGETS = [("sim:rk3588", 1), ("sim:rk3588", 3), ("sim:a311d", 1), ("cpu", 1)]


@pytest.mark.parametrize(("device", "cores"), TARGETS)
def test_several_threads_may_close_and_each_waits_for_queued_inferences(
    device: str, cores: int
) -> None:
    model = teflon.load(PATH, device, cores=cores, cache="off")
    futures = [model.submit(IMAGE, stream=number) for number in range(24)]
    undone: list[int] = []

    def close() -> None:
        model.close()
        undone.append(sum(not future.done() for future in futures))

    closers = [threading.Thread(target=close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    assert undone == [0] * 4
    assert [future.exception() for future in futures] == [None] * 24


def test_callbacks_that_close_do_not_wait_for_each_other() -> None:
    meeting = threading.Barrier(2)
    queue = FairQueue[None]("m", [[lambda: None, lambda: None]])
    closed = [threading.Event(), threading.Event()]

    def close(event: threading.Event) -> None:
        meeting.wait(10)
        queue.close()
        event.set()

    for event in closed:
        queue.put(()).add_done_callback(lambda _future, event=event: close(event))  # type: ignore[misc]
    assert [event.wait(10) for event in closed] == [True, True]


@pytest.mark.parametrize(("device", "cores"), TARGETS)
def test_the_threads_of_a_dropped_model_end(device: str, cores: int) -> None:
    model = teflon.load(PATH, device, cores=cores, cache="off")
    before = set(threading.enumerate())
    future = model.submit(IMAGE)
    own = [t for t in set(threading.enumerate()) - before if t.name.startswith(model.graph.name)]
    assert own
    gone = weakref.ref(model)
    del model
    future.result(10)  # what is queued is finished nevertheless
    limit = time.monotonic() + 10
    while (gone() or any(t.is_alive() for t in own)) and time.monotonic() < limit:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None
    assert [t for t in own if t.is_alive()] == []


def _in_child(model: Runner, tell: multiprocessing.connection.Connection) -> None:
    try:
        found: object = next(iter(model.submit(IMAGE).result(10).values())).tolist()
    except TeflonError as error:
        found = str(error)
    model.close()
    tell.send(found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("device", "cores"), TARGETS)
def test_a_forked_child_is_told_or_served(device: str, cores: int) -> None:
    fork = multiprocessing.get_context("fork")
    with teflon.load(PATH, device, cores=cores, cache="off") as model:
        wanted = next(iter(model.submit(IMAGE).result().values())).tolist()
        here, there = fork.Pipe()
        child = fork.Process(target=_in_child, args=(model, there))
        child.start()
        assert here.poll(20), "the child hangs"
        found = here.recv()
        child.join()
        if device == "cpu":
            assert found == wanted
        else:
            assert "open it again after the fork" in found
        assert next(iter(model.submit(IMAGE).result().values())).tolist() == wanted
