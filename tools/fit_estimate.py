"""Fit the free constant of every chip's model of time to published times, and print it.

python -P tools/fit_estimate.py        deterministic; needs the public models

One constant is free for each chip: the rate of its memory. A time is bytes / rate + the rest, where
the rest (cycles at the published clock, the kernel's cost of a job, the host) is not fitted. Least
squares of the relative errors over the rows that benchmarks/published.py marks as fitted: all of
MobileNetV1. Those of MobileDet are left out of the fit and only predicted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import published
from published import Published
from teflon.cli.common import table


def fit(rows: Sequence[Published]) -> float:
    """Return bytes that memory moves in a millisecond."""
    times = np.array([row.middle for row in rows])
    parts = [_parts(row) for row in rows]
    factors = np.array([moved for moved, _ in parts]) / times
    wanted = (times - np.array([rest for _, rest in parts])) / times
    return float(factors @ factors / (factors @ wanted))


def _parts(row: Published) -> tuple[float, float]:
    """Return (bytes that the chip moves, milliseconds of everything else)."""
    found = published.predicted(row)
    totals = found.totals()
    moved = totals["dram_read"] + totals["dram_written"]
    return float(moved), found.total_ms - found.milliseconds()["memory"]


def main() -> int:
    """Print the constants, and every published time beside the predicted one."""
    rows = published.at_hand()
    if len(rows) < len(published.TIMES):
        print("the public models are needed: teflon models fetch mobilenet_v1 mobiledet")
        return 1
    lines = []
    for chip in dict.fromkeys(row.chip for row in rows):
        own = [row for row in rows if row.chip == chip and not row.bound]
        memory = fit([row for row in own if row.fitted])
        print(f"{chip}: memory={memory / 1e6:.2f}e6 bytes in a millisecond")
        lines += [_line(row, published.milliseconds(row, {"memory": memory})) for row in own]
    print()
    print(table(lines, ("chip", "model", "step", "in fit", "published", "predicted", "%")))
    return 0


def _line(row: Published, ms: float) -> tuple[object, ...]:
    used = "yes" if row.fitted else ""
    return row.chip, row.model, row.step, used, row.middle, ms, 100 * (ms / row.middle - 1)


if __name__ == "__main__":
    sys.exit(main())
