"""Fork while threads infer: `python tests/run/forking.py DEVICE CORES MODE TRIES`.

Prints what the children said, as JSON: what a child does with the parent's model -> text -> how
often. A child that hangs is ended and counts as `hangs`.
"""

from __future__ import annotations

import asyncio
import collections
import importlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import teflon
from teflon.run.runner import Runner
from teflon.samples.models import resolve

SECONDS = 20.0
IMAGE = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1), np.int8)
THREADS = 3


def open_delegate(device: str) -> Callable[[], Any]:
    """Return a function that infers with an interpreter and our delegate."""
    litert = importlib.import_module("ai_edge_litert.interpreter")

    delegate = teflon.tflite_delegate(device=device, cache="off")
    made = litert.Interpreter(str(resolve("digits_int8")), experimental_delegates=[delegate])
    made.allocate_tensors()
    entry, end = made.get_input_details()[0]["index"], made.get_output_details()[0]["index"]

    def infer() -> Any:
        made.set_tensor(entry, IMAGE)
        made.invoke()
        return made.get_tensor(end).tolist()

    return infer


def numbers(outputs: Any) -> Any:
    return next(iter(outputs.values())).tolist()


def grandchild(model: Runner) -> Any:
    """Ask in a child of the child."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, answer(lambda: numbers(model(IMAGE))).encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 10_000).decode()
    os.waitpid(child, 0)
    raise RuntimeError(said)


async def coroutine(model: Runner) -> Any:
    return await model.run_async(IMAGE)


def ways(model: Runner, pending: Any, items: Any) -> dict[str, Callable[[], Any]]:
    """Return what a child may do with the model, with a future of its parent, with a `map`."""
    return {
        "call": lambda: numbers(model(IMAGE)),
        "submit": lambda: numbers(model.submit(IMAGE, stream="child").result()),
        "async": lambda: numbers(asyncio.run(coroutine(model))),
        "map": lambda: numbers(list(model.map([IMAGE] * 3))[-1]),
        "running map": lambda: numbers(list(items)[-1]),
        "future": lambda: numbers(pending.result()),
        "grandchild": lambda: grandchild(model),
        "close": lambda: model.close(),
        "nothing": lambda: None,
    }


def answer(work: Callable[[], Any]) -> str:
    """Return what a call gives or says, without the numbers of processes."""
    try:
        found = work()
        return "right" if found == RIGHT else str(found)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


RIGHT: Any = None


def child(work: Callable[[], Any], model: Runner | None, writer: int) -> None:
    """Answer, close the model, and end as a program does, with all handlers for its exit."""
    said = answer(work)
    if model is not None:
        said += answer(model.close).replace("None", "")
    os.write(writer, said.encode())
    os.close(writer)
    sys.exit(0)


def await_child(pid: int, reader: int) -> str:
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            with os.fdopen(reader) as pipe:
                return pipe.read() + (f" exit {code}" if code else "")
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    return "hangs"


def fork_often(tries: int, work: Callable[[], Any], model: Runner | None) -> dict[str, int]:
    found: collections.Counter[str] = collections.Counter()
    for number in range(tries):
        time.sleep(0.0013 * (number % 7))
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            child(work, model, writer)
        os.close(writer)
        found[await_child(pid, reader).replace(f"process {pid}", "HERE")] += 1
    return dict(found)


def work_until(stop: threading.Event, infer: Callable[[], Any], wrong: list[object]) -> None:
    while not stop.is_set():
        if (found := infer()) != RIGHT:
            wrong.append(found)


def started(infers: Sequence[Callable[[], Any]], wrong: list[object]) -> Callable[[], None]:
    """Start threads that infer, and return the function that ends them."""
    stop = threading.Event()
    threads = [threading.Thread(target=work_until, args=(stop, w, wrong)) for w in infers]
    for thread in threads:
        thread.start()

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join()

    return end


def with_delegate(device: str, tries: int) -> dict[str, dict[str, int]]:
    """Fork while threads run interpreters with our delegate, one each."""
    global RIGHT
    infers = [open_delegate(device) for _ in range(THREADS + 1)]
    RIGHT = infers[0]()
    wrong: list[object] = []
    end = started(infers[1:], wrong)
    found = {
        "call": fork_often(tries, infers[0], None),
        "new": fork_often(tries, lambda: open_delegate(device)(), None),
    }
    end()
    assert all(infer() == RIGHT for infer in infers)
    assert not wrong, wrong
    return found


def with_model(device: str, cores: str, mode: str, tries: int) -> dict[str, dict[str, int]]:
    """Fork while threads call a model and queue inferences."""
    global RIGHT
    model = teflon.load(resolve("digits_int8"), device, cores=int(cores), mode=mode, cache="off")
    RIGHT = numbers(model(IMAGE))
    wrong: list[object] = []
    end = started(
        [lambda: numbers(model(IMAGE)), lambda: numbers(model.submit(IMAGE).result())] * 2, wrong
    )
    items = model.map([IMAGE] * 20)
    next(items)
    found = {}
    for way in ways(model, None, None):
        waiting = 30 if way == "future" else 1
        pending = [model.submit(IMAGE, stream=n) for n in range(waiting)][-1]
        found[way] = fork_often(tries, ways(model, pending, items)[way], model)
    end()
    assert numbers(list(items)[-1]) == RIGHT
    assert numbers(model(IMAGE)) == RIGHT
    assert not wrong, wrong
    model.close()
    return found


def main(device: str, cores: str, mode: str, tries: str) -> None:
    """Fork often, and show that the parent's model still gives the same."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
    if mode == "delegate":
        print(json.dumps(with_delegate(device, int(tries))))
    else:
        print(json.dumps(with_model(device, cores, mode, int(tries))))


if __name__ == "__main__":
    main(*sys.argv[1:])
