"""Compare predicted with published times, all that we know. The same on every machine.

python benchmarks/estimate.py [--chart FILE.svg]        see docs/estimate.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import published
from common import OUT, Row, show
from published import Published
from teflon.timing import chart


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw them: .svg or .png")
    options = parser.parse_known_args(argv)[0]
    options.device = "all"
    rows = published.at_hand()
    show("Models of time: predicted beside published", table(rows), options, "published")
    if len(rows) < len(published.TIMES):
        print("public models are missing: teflon models fetch mobilenet_v1 mobiledet")
    if options.chart:
        options.chart.write_bytes(chart.FORMATS[options.chart.suffix](bars(rows)))
    return 0


def table(rows: Sequence[Published]) -> list[Row]:
    """Return a row for each published time."""
    return [_line(row) for row in rows]


def _line(row: Published) -> Row:
    ms = published.milliseconds(row)
    return {
        "chip": row.chip,
        "model": row.model,
        "step": row.step,
        "used for": "bound" if row.bound else "fit" if row.fitted else "test",
        "published": row.middle,
        "predicted": round(ms, 2),
        "error %": round(error(row), 1),
    }


def error(row: Published) -> float:
    """Return by how many percent the prediction is above the published time."""
    return 100 * (published.milliseconds(row) / row.middle - 1)


def bars(rows: Sequence[Published]) -> chart.Bars:
    """Return the chart: two bars for each row."""
    found: list[tuple[str, dict[str, float]]] = []
    for row in rows:
        title = f"{row.chip} {row.model}, {row.step}"
        found.append((title, {"published": row.middle}))
        name = "bound" if row.bound else "predicted"
        found.append((f"{name} ", {name: published.milliseconds(row)}))
    return chart.Bars("Published and predicted times of one inference", "ms", tuple(found))


if __name__ == "__main__":
    sys.exit(main())
