"""Forks while threads infer: every child gets its sentence or its results, and none hangs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon import forks
from teflon.errors import DeviceError
from teflon.run.queue import FairQueue
from teflon.samples.models import resolve
from tests.oracle import needs_oracle
from tests.paths import ROOT

TRIES = os.environ.get("TEFLON_FORKS", "2")
PROGRAM = Path(__file__).with_name("forking.py")

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

OPENED = (
    r"{}: was opened by process \d+, must be used there \(open it again after the fork, here in"
)
QUEUED = r"DeviceError: digits_int8: an inference was queued by process \d+, must be waited for"
MADE = r"RuntimeError: teflon: this process was forked after the delegate was made; make a new one"


def children(device: str, cores: int, mode: str) -> dict[str, list[str]]:
    """Return what children said that were forked while threads inferred."""
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), device, str(cores), mode, TRIES],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return {way: list(said) for way, said in found.items()}


@pytest.mark.parametrize(
    ("device", "cores", "mode"),
    [
        ("cpu", 1, "throughput"),
        ("sim:rk3588", 1, "throughput"),
        ("sim:rk3588", 3, "throughput"),
        ("sim:a311d", 1, "throughput"),
    ],
)
def test_children_of_a_model_that_threads_use(device: str, cores: int, mode: str) -> None:
    said = children(device, cores, mode)
    driver = {"cpu": "", "sim:rk3588": "rocket", "sim:a311d": "etnaviv"}[device]
    used = f"DeviceError: {OPENED.format(driver)}" if driver else "right"
    for way in ("call", "submit", "async", "map"):
        assert all(re.match(used, text) for text in said[way]), said
    assert all(re.match(f"RuntimeError: {used}", text) for text in said["grandchild"]), said
    assert all(re.match(QUEUED, text) for text in said["running map"]), said
    assert all(text == "right" or re.match(QUEUED, text) for text in said["future"]), said
    assert said["close"] == said["nothing"] == ["None"]


@needs_oracle
@pytest.mark.parametrize("device", ["cpu", "sim:rk3588"])
def test_children_of_interpreters_with_our_delegate(device: str) -> None:
    said = children(device, 1, "delegate")
    assert all(re.match(MADE, text) for text in said["call"]), said
    assert said["new"] == ["right"]


def in_child(work: Callable[[], object]) -> str:
    """Run a function in a forked child; return what it gives or raises, as text."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.wait()
    return said


def held(lock: threading.Lock) -> tuple[threading.Event, threading.Thread]:
    """Hold a lock in another thread until the event."""
    go, ready = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            ready.set()
            go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(30)
    return go, thread


@pytest.mark.parametrize("make", [forks.lock, forks.rlock])
def test_a_lock_of_another_thread_is_free_in_a_child(make: Callable[[], threading.Lock]) -> None:
    lock = make()
    go, thread = held(lock)
    assert in_child(lambda: lock.acquire(timeout=10)) == "True"
    assert in_child(lambda: in_child(lambda: lock.acquire(timeout=10))) == "True"
    assert not lock.acquire(blocking=False), "the parent's lock stays as it is"
    go.set()
    thread.join()


def test_a_property_that_another_thread_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before 3.12 holds a lock meanwhile, one for all objects of a class."""
    computing, go = threading.Event(), threading.Event()

    class Slow:
        @cached_property
        def value(self) -> int:
            computing.set()
            go.wait(30)
            return 5

    monkeypatch.setattr(forks, "Slow", Slow, raising=False)
    thread = threading.Thread(target=lambda: Slow().value)
    thread.start()
    computing.wait(30)

    def quick() -> int:
        go.set()
        return Slow().value

    assert in_child(quick) == "5"
    go.set()
    thread.join()


def test_things_are_told_as_long_as_they_live() -> None:
    class Thing:
        process = os.getpid()

        def after_fork(self) -> None:
            self.process = os.getpid()

    thing = Thing()
    forks.watch(thing)
    forks.watch(Thing())
    assert in_child(lambda: thing.process == os.getpid()) == "True"
    assert thing.process == os.getpid()


def test_a_result_that_is_there_stays_there() -> None:
    queue = FairQueue[int]("m", [[lambda: 5]])
    good, bad = queue.put(()), queue.put((1,))
    assert good.result(30) == 5
    assert isinstance(bad.exception(30), TypeError)
    assert in_child(lambda: good.result(10)) == "5"
    assert in_child(lambda: bad.result(10)).startswith("TypeError: ")
    assert "must be waited for there" in in_child(lambda: queue.put(()))
    queue.close()


def test_a_callback_of_the_parent_does_not_run_in_a_child() -> None:
    go = threading.Event()
    queue = FairQueue[bool]("m", [[lambda: go.wait(30)]])
    calls: list[object] = []
    running = queue.put(())
    running.add_done_callback(calls.append)
    assert in_child(lambda: (str(running.exception(10)), calls)).startswith("('m: an inference was")
    go.set()
    queue.close()
    assert len(calls) == 1


def test_the_process_that_opened_it() -> None:
    owner = os.getpid()
    forks.check_process(owner, "x")
    assert in_child(lambda: forks.check_process(owner, "x")).startswith(
        f"DeviceError: x: was opened by process {owner}, must be used there (open it again"
    )
    with pytest.raises(DeviceError):
        forks.check_process(0, "x")


def test_a_program_that_a_child_starts_inherits_nothing() -> None:
    def open_files() -> str:
        reader, writer = os.pipe()
        listing = "import os; print(sorted(os.listdir('/proc/self/fd')))"
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execv(sys.executable, [sys.executable, "-S", "-c", listing])
        os.close(writer)
        with os.fdopen(reader) as pipe:
            found = pipe.read()
        os.wait()
        return found

    before = open_files()
    with teflon.load(resolve("digits_int8"), "sim:rk3588", cache="off") as model:
        model(np.zeros((1, 8, 8, 1), np.int8))
        assert open_files() == before


def _spawned(number: int) -> list[int]:
    image = np.full((1, 8, 8, 1), number, np.int8)
    with teflon.load(resolve("digits_int8"), "sim:rk3588", cache="off") as model:
        found: list[int] = next(iter(model(image).values())).ravel().tolist()
    return found


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_opens_its_own(method: str) -> None:
    program = (
        "import multiprocessing as m, sys, teflon; from tests.run.test_forks import _spawned\n"
        f"if __name__ == '__main__':\n"
        f"    with m.get_context({method!r}).Pool(2) as pool:\n"
        f"        assert pool.map(_spawned, [1, 2]) == [_spawned(1), _spawned(2)]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_every_lock_of_the_host_path_is_free_in_a_child() -> None:
    """Whoever needs another kind of lock says here why a child cannot meet it."""
    reasons = {
        "teflon/forks.py": "makes them",
        "teflon/interrupts.py": "a gate is made anew by whoever waits for it",
        "teflon/run/queue.py": "its condition is made anew in a child",
        "teflon/board": "a server in a process of its own, which does not fork",
        "drivers/rocket/teflon_rocket/simulator": "behind FakeWinsys, which a child may not use",
        "drivers/etnaviv/teflon_etnaviv/simulator": "behind FakeWinsys",
        "drivers/common/teflon_common/fake_": "behind FakeWinsys",
    }
    made = re.compile(
        r"\bthreading\.(Lock|RLock|Condition|Event|Semaphore|Barrier)\(|register_at_f"
    )
    found = {
        str(file.relative_to(ROOT))
        for folder in (ROOT / "teflon", *ROOT.glob("drivers/*/teflon_*"))
        for file in folder.rglob("*.py")
        if "conformance" not in file.parts and made.search(file.read_text("utf-8"))
    }
    assert [name for name in found if not any(name.startswith(r) for r in reasons)] == []
    assert [r for r in reasons if not any(name.startswith(r) for name in found)] == []


def test_the_workers_of_a_parent_are_not_waited_for() -> None:
    from teflon import workers

    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(workers.shared, lambda _: go.wait(30), range(3))
        done: list[int] = []

        def work() -> list[int]:
            workers.shared(done.append, range(3))
            return sorted(done)

        assert in_child(work) == "[0, 1, 2]"
        go.set()
        busy.result()
