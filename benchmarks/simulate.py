"""Time of an inference: on the device, on our CPU reference, in TFLite, in the same run.

    python benchmarks/simulate.py [--device sim:rk3588] [--runs 5]

The last column is the device's time divided by that of TFLite with two threads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import teflon
from common import Row, arguments, at_hand, best_ms, inputs_of, show, tflite_ms


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
        ours = best_ms(lambda: npu.run(*inputs), runs)[0]
        reference = best_ms(lambda: cpu.run(*inputs), runs)[0]
    one, two = (tflite_ms(path, inputs, runs, threads) for threads in (1, 2))
    return {
        "model": name,
        "first": first,
        "device": ours,
        "our cpu": reference,
        "TFLite, 1 thread": one or float("nan"),
        "TFLite, 2 threads": two or float("nan"),
        "ratio": ours / two if two else float("nan"),
    }


if __name__ == "__main__":
    sys.exit(main())
