"""Damage good .tflite files at random; as a program, for as long as one likes.

`python -m tests.frontend.tflite.mutations SECONDS [SEED]` prints what was tried and stops at the
first defect.
"""

from __future__ import annotations

import contextlib
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass

import numpy as np

from teflon.errors import ModelError, OptionError
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read, read_resized
from teflon.frontend.tflite.writer import write
from teflon.ir import Graph
from tests.frontend.tflite.helpers import EXAMPLES, code, operator, relu
from tests.frontend.tflite.structures import (
    ANGLE,
    SUM,
    chain,
    composite,
    file,
    loop_with_variable,
    svdf,
    twice,
    where,
)
from tests.frontend.tflite.variables import Plan, Step, file_of
from tests.ir.examples import FIRST

NAMES = (
    "chain", "conv2d_per_axis", "fully_connected_i8", "add_constant_u8", "pad_value",
    *(example.name for example in FIRST.values()),
)  # fmt: skip
INTERESTING = np.array(
    [0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31,
     (1 << 32) - 1, (1 << 32) - 4, 1 << 20, 1 << 24], np.uint32,
)  # fmt: skip

BYTES_PER_BYTE = 32
BYTES_FREE = 1 << 18
"""What reading may allocate at most: so many bytes for each of the file, beyond so many."""
SECONDS = 1.0


def seeds() -> list[bytes]:
    """Return the good files: one for each kind of operator, and one that stays opaque."""
    opaque = relu(
        operators=[
            operator([0], [1], builtin_options=table("BucketizeOptions", boundaries=(1, 2)))
        ],
        codes=[code("BUCKETIZE")],
    )
    return [*(write(EXAMPLES[name]()) for name in NAMES), opaque, *structures()]


def structures() -> list[bytes]:
    """Return good files with more than one subgraph, with state, with shapes that are computed."""
    steps = (Step("read", 0, 0), Step("assign", 0, 1), Step("read", 0, 0), Step("assign", 1, 0))
    sums = [composite([0, 1], [2], 1), composite([2, 1], [3], 1)]
    return [
        file_of(Plan(2, (True, False), 2, steps)),
        file(4, [2, 3], sums, ANGLE),
        file(3, [2], [composite([1, 0], [2], 1)], twice(2), SUM),
        svdf(shared_state=True),
        loop_with_variable(),
        chain(),
        where(),
    ]


def damaged(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """Return one of the files with a few random changes."""
    data = np.frombuffer(files[rng.integers(len(files))], np.uint8).copy()
    for _ in range(int(rng.integers(1, 5))):
        if data.size < 8:
            break
        data = _CHANGES[rng.integers(len(_CHANGES))](rng, data, files)
    return data.tobytes()


def _flip(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    data[rng.integers(data.size)] ^= np.uint8(1 << int(rng.integers(8)))
    return data


def _byte(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    data[rng.integers(data.size)] = rng.integers(256)
    return data


def _word(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    at = int(rng.integers(data.size // 4)) * 4
    value = INTERESTING[rng.integers(INTERESTING.size)]
    data[at : at + 4] = np.frombuffer(value.tobytes(), np.uint8)
    return data


def _shift(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    """Move an offset, or what looks like one, by a few words."""
    at = int(rng.integers(data.size // 4)) * 4
    words = data[at : at + 4].view(np.uint32)
    words += np.uint32(4 * int(rng.integers(-8, 9)) % (1 << 32))
    return data


def _copy(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    """Repeat a piece of the file somewhere else in it."""
    length = int(rng.integers(1, min(64, data.size)))
    a, b = rng.integers(data.size - length + 1, size=2)
    data[a : a + length] = data[b : b + length].copy()
    return data


def _truncate(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    return data[: rng.integers(data.size)]


def _splice(rng: np.random.Generator, data: np.ndarray, files: list[bytes]) -> np.ndarray:
    other = np.frombuffer(files[rng.integers(len(files))], np.uint8)
    return np.concatenate([data[: rng.integers(data.size)], other[rng.integers(other.size) :]])


_CHANGES = (_flip, _byte, _word, _word, _word, _shift, _shift, _copy, _truncate, _splice)


@dataclass(frozen=True)
class Outcome:
    """What reading one file came to."""

    error: str
    seconds: float
    peak_bytes: int

    def defect(self, size: int) -> str:
        """Return what is wrong with the reader, not with the file; empty if nothing is."""
        limit = BYTES_PER_BYTE * size + BYTES_FREE
        if self.peak_bytes > limit:
            return f"allocated {self.peak_bytes} bytes for a file of {size}, limit {limit}"
        return f"took {self.seconds:.2f} s" if self.seconds > SECONDS else ""


def outcome(data: bytes) -> Outcome:
    """Read a file with memory counted. What is no ModelError passes through: a defect."""
    tracemalloc.start()
    start, error = time.process_time(), ""
    try:
        graph = read(data, "fuzz")
        problems = list(graph.problems())
        resized(data, graph)
    except ModelError as caught:
        error, problems = str(caught), []
    finally:
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if problems:
        raise AssertionError(f"a graph that does not verify: {problems[0]}")
    return Outcome(error, seconds, peak)


def resized(data: bytes, graph: Graph) -> None:
    """Read a file once more, with its first input one larger along each axis."""
    count = len(graph.inputs) - len(graph.states)
    shapes = {v.name: [n + 1 for n in v.shape] for v in graph.inputs[: min(count, 1)]}
    with contextlib.suppress(ModelError, OptionError):
        again = read_resized(data, shapes, "fuzz", lambda inputs: {})
        assert list(again.problems()) == []


def main() -> None:
    """Fuzz for a while; leave the file that shows a defect in the working folder."""
    until = time.monotonic() + float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    rng, files = np.random.default_rng(seed), seeds()
    kinds: Counter[str] = Counter()
    worst, slowest = 0.0, 0.0
    while time.monotonic() < until:
        data = damaged(rng, files)
        try:
            found = outcome(data)
            defect = found.defect(len(data))
        except Exception as error:
            defect = f"{type(error).__name__}: {error}"
        if defect:
            with open("fuzz-defect.tflite", "wb") as file:
                file.write(data)
            sys.exit(f"seed {seed}: {defect} (fuzz-defect.tflite)")
        kinds[_kind(found.error)] += 1
        worst = max(worst, (found.peak_bytes - BYTES_FREE) / max(len(data), 1))
        slowest = max(slowest, found.seconds)
    sys.stdout.write(f"seed {seed}: {sum(kinds.values())} files, {kinds['']} read; at most"
                     f" {worst:.1f} bytes per byte, {slowest * 1e3:.0f} ms\n")  # fmt: skip
    for kind, count in kinds.most_common():
        sys.stdout.write(f"{count:8} {kind}\n")


def _kind(error: str) -> str:
    """Return the sentence without names and numbers."""
    words = error.split(": ", 2)[-1].split()
    return " ".join(w for w in words if not any(c.isdigit() or c in "'[" for c in w))[:70]


if __name__ == "__main__":
    main()
