"""Fit the free constant of each chip's model of time to published times, and print it.

python -P tools/fit_estimate.py        needs the public models; the result is the same each time

Each chip has one free constant: the rate of its memory. A time is bytes / rate + the rest. The rest
(cycles at the published clock, the kernel's time for a job, the host) is not fitted. The fit takes
the least squares of the relative errors over the rows that benchmarks/published.py marks as fitted:
those of MobileNetV1. The times of MobileDet are only predicted.
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
    """Return the rate of memory that fits best, in bytes per millisecond."""
    times = np.array([row.middle for row in rows])
    parts = [_parts(row) for row in rows]
    factors = np.array([moved for moved, _ in parts]) / times
    wanted = (times - np.array([rest for _, rest in parts])) / times
    return float(factors @ factors / (factors @ wanted))


def _parts(row: Published) -> tuple[float, float]:
    """Return (bytes that the chip moves, milliseconds of the rest)."""
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
