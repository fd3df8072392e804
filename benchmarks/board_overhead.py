"""Measure what a virtual board costs: inferences through its node, beside the same in one process.

    python benchmarks/board_overhead.py [--device sim:rk3588] [--runs 20]

One program on the board opens the simulated chip twice, in its own process and as the board's node,
and runs inferences on both in turns. The outputs must be equal. The ratio is that of the medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import teflon
from common import Row, arguments, at_hand, show
from teflon.ir.types import Array

CLIENT = "--client"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on a board for each model, and print the table."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [CLIENT]:
        return client(*given[1:])
    options = arguments(__doc__, given)
    chip = options.device.partition(":")[2]
    rows: list[Row] = []
    for name, path in at_hand(options.models):
        words = [CLIENT, options.device, str(path), str(options.runs)]
        board = [sys.executable, "-P", "-m", "teflon", "board", chip, "--"]
        command = [*board, sys.executable, __file__, *words]
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        here, there = json.loads(done.stdout)
        rows.append({"model": name, "in process ms": here, "board ms": there,
                     "board / in process": there / here})  # fmt: skip
    show(f"What a virtual board of {options.device} costs, an inference", rows, options,
         "board_overhead")  # fmt: skip
    return 0


def client(device: str, path: str, runs: str) -> int:
    """Run a model on the simulated chip and on the node in turns; print both medians as JSON."""
    here: list[float] = []
    there: list[float] = []
    with teflon.load(Path(path), device) as own, teflon.load(Path(path), "auto") as node:
        inputs = [random_input(own, seed) for seed in range(2)]
        for number in range(int(runs) + 1):
            given = inputs[number % len(inputs)]
            times = [(own, here), (node, there)]
            outputs = [timed(model, given, into) for model, into in times[:: (-1) ** number]]
            for key, array in outputs[0].items():
                assert np.array_equal(array, outputs[1][key])
    print(json.dumps([statistics.median(found[1:]) for found in (here, there)]))
    return 0


def random_input(model: teflon.Model, seed: int) -> dict[str, Array]:
    """Return random inputs by name."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.integers(0, 256, value.shape, np.uint8).view(value.dtype)
        for value in model.inputs
    }


def timed(model: teflon.Model, given: dict[str, Array], into: list[float]) -> dict[str, Array]:
    """Run a model; add the milliseconds to a list."""
    start = time.perf_counter()
    found: dict[str, Array] = model(given)
    into.append(1e3 * (time.perf_counter() - start))
    return found


if __name__ == "__main__":
    sys.exit(main())
