"""Interrupt inferences at many moments: `python tests/run/interrupting.py DEVICE CORES WAY TRIES`.

After each interrupt the next inference must be right. Prints how many interrupts there were, the
longest time until one reached the caller, and the longest time of an inference after one.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import teflon
from teflon.run.runner import Runner
from teflon.samples.models import resolve

IMAGE = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1), np.int8)


def numbers(outputs: Any) -> Any:
    return next(iter(outputs.values())).tolist()


def ways(model: Runner) -> dict[str, Callable[[], Any]]:
    return {
        "call": lambda: numbers(model(IMAGE)),
        "submit": lambda: numbers(model.submit(IMAGE).result()),
        "map": lambda: numbers(list(model.map([IMAGE] * 4))[-1]),
    }


def interrupt(_number: int, _frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


def main(device: str, cores: str, way: str, tries: str) -> None:
    """Interrupt, and try again."""
    model = teflon.load(resolve("digits_int8"), device, cores=int(cores), cache="off")
    infer = ways(model)[way]
    right = infer()
    start = time.monotonic()
    assert infer() == right
    usual = time.monotonic() - start
    signal.signal(signal.SIGALRM, interrupt)
    late = slow = 0.0
    count = 0
    moments = random.Random(int(tries))
    for _ in range(int(tries)):
        delay = moments.uniform(0.0001, 1.5 * usual)
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            start = time.monotonic()
            while True:
                assert infer() == right
        except KeyboardInterrupt:
            late = max(late, time.monotonic() - start - delay)
            count += 1
        start = time.monotonic()
        assert infer() == right
        slow = max(slow, time.monotonic() - start)
    start = time.monotonic()
    model.close()
    slow = max(slow, time.monotonic() - start)
    print(json.dumps({"interrupts": count, "late": late, "slow": slow, "usual": usual}))


if __name__ == "__main__":
    main(*sys.argv[1:])
