"""Measure an inference on the device, on our CPU reference and in TFLite, in the same run.

    python benchmarks/simulate.py [--device sim:rk3588] [--runs 5]

"device" and "our cpu" are wall times. "CPU" is the time of the device's inference on all
processors. "CPU ratio" is this time divided by the CPU time of TFLite with one thread. "ratio" is
the wall time of the device divided by that of TFLite with two threads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import teflon
from common import (
    Row,
    arguments,
    at_hand,
    best_ms,
    inputs_of,
    show,
    tflite_ms,
    wall_and_cpu_ms,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    rows = [
        _row(name, path, options.device, options.runs) for name, path in at_hand(options.models)
    ]
    show("Inference, milliseconds (best of the runs)", rows, options, "simulate")
    return 0


def _row(name: str, path: Path, device: str, runs: int) -> Row:
    with teflon.load(path, device, cache="off") as npu, teflon.load(path, "cpu") as cpu:
        inputs = inputs_of(npu.graph)
        first = best_ms(lambda: npu.run(*inputs), 1)[0]
        ours, processors = wall_and_cpu_ms(lambda: npu.run(*inputs), runs)
        reference = best_ms(lambda: cpu.run(*inputs), runs)[0]
    nan = float("nan")
    one, busy = tflite_ms(path, inputs, runs, 1) or (nan, nan)
    two, _ = tflite_ms(path, inputs, runs, 2) or (nan, nan)
    return {
        "model": name,
        "first": first,
        "device": ours,
        "CPU": processors,
        "our cpu": reference,
        "TFLite, 1 thread": one,
        "TFLite, 2 threads": two,
        "CPU ratio": processors / busy,
        "ratio": ours / two,
    }


if __name__ == "__main__":
    sys.exit(main())
