"""Kinds of inputs whose cases end in every bad way, for tests of the runner."""

from __future__ import annotations

import os
import threading
import time
import warnings

from tests.fuzz.runner import Kind, Mutant, Random


def _seeds() -> list[bytes]:
    return [b"good"]


def _mutate(random: Random, seeds: object) -> Mutant:
    number = int(random.integers(256))
    return Mutant(f"field {number % 2}", bytes([number]))


def _well(data: bytes, random: Random) -> str:
    return "ran" if data[0] % 2 else "refused"


def _raises(data: bytes, random: Random) -> str:
    raise KeyError(data)


def _hangs(data: bytes, random: Random) -> str:
    time.sleep(60)
    return "ran"


def _hangs_without_signals(data: bytes, random: Random) -> str:
    bytes(1).join([])  # a place with a name
    return str(sum(range(1 << 40)))


def _crashes(data: bytes, random: Random) -> str:
    os.abort()


def _takes_memory(data: bytes, random: Random) -> str:
    return str(len(bytearray(1 << 31)))


def _warns(data: bytes, random: Random) -> str:
    warnings.warn("odd", RuntimeWarning, stacklevel=1)
    return "ran"


def _in_a_thread(data: bytes, random: Random) -> str:
    thread = threading.Thread(target=_raises, args=(data, random))
    thread.start()
    thread.join()
    return "ran"


def _does_not_mutate(random: Random, seeds: object) -> Mutant:
    raise IndexError


_RUNS = {
    "well": _well, "raises": _raises, "hangs": _hangs, "no-signals": _hangs_without_signals,
    "crashes": _crashes, "memory": _takes_memory, "warns": _warns, "thread": _in_a_thread,
}  # fmt: skip

KINDS = {
    **{n: Kind(n, _seeds, _mutate, use, seconds=0.3, memory=1 << 30) for n, use in _RUNS.items()},
    "mutator": Kind("mutator", _seeds, _does_not_mutate, _well),
}
