"""Draw a timeline that TEFLON_DEBUG=trace has written.

TEFLON_DEBUG=trace TEFLON_TRACE=t.json teflon run MODEL --device sim:rk3588
python tools/draw_trace.py t.json docs/trace.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "read": "#9ecae1", "open": "#c6dbef", "passes": "#6baed6", "partitioning": "#3182bd",
    "partition": "#f0f0f0",
    "compile": "#fd8d3c", "upload": "#fdae6b", "inference": "#d9d9d9", "convert inputs": "#74c476",
    "submit": "#756bb1", "wait": "#bcbddc", "convert outputs": "#31a354",
}  # fmt: skip
OPERATION, ALTERNATE, TASK = "#fee391", "#fec44f", "#ec7014"
HEIGHT = 0.86
BEGINNING = 0.3  # share of the inference that the last panel shows larger
WIDTH = 150
"""Letters that fit across a panel."""


@dataclass(frozen=True)
class Bar:
    """A span of time in milliseconds, with its row and colour."""

    name: str
    start: float
    length: float
    row: int
    colour: str


def main(arguments: Sequence[str]) -> int:
    """Read the first file, write the picture to the second."""
    if len(arguments) != 2:
        sys.stderr.write(f"{(__doc__ or '').strip()}\n")
        return 2
    events = json.loads(Path(arguments[0]).read_text())["traceEvents"]
    mpl.rcParams["svg.hashsalt"] = "teflon"  # the same trace makes the same file
    mpl.rcParams["svg.fonttype"] = "none"
    metadata = {"Date": None} if arguments[1].endswith(".svg") else {}
    draw(events).savefig(arguments[1], dpi=110, metadata=metadata)
    return 0


def draw(events: Iterable[dict[str, Any]]) -> Figure:
    """Return the picture. Panels: everything, the last inference, its first operations."""
    listed = list(events)
    bars, rows = layout(listed)
    runs = [bar for bar in bars if bar.name == "inference"]
    ends = max((bar.start + bar.length for bar in bars), default=1.0)
    panels = [("from the file to the result", 0.0, ends)]
    for run in runs[-1:]:
        panels.append(("the inference", run.start, run.start + run.length))
        panels.append(("how it begins", run.start, run.start + run.length * BEGINNING))
    figure = Figure(figsize=(12, 0.6 + len(panels) * (0.9 + 0.3 * len(rows))), layout="constrained")
    for axes, (title, left, right) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        _panel(axes, title, (left, right), bars, rows)
    return figure


def layout(events: Sequence[dict[str, Any]]) -> tuple[list[Bar], list[str]]:
    """Return the bars and the names of the rows: one row for each track and depth of nesting.

    Tracks in modelled time are left out: their time is not that of this computer.
    """
    own = {
        e["pid"] for e in events if e["name"] == "process_name" and e["args"]["name"] == "teflon"
    }
    named = [e for e in events if e["name"] == "thread_name" and e["pid"] in own]
    names = {e["tid"]: e["args"]["name"] for e in named}
    bars: list[Bar] = []
    rows: list[str] = []
    for tid, name in names.items():
        spans = [e for e in events if e["ph"] == "X" and e["tid"] == tid]
        first, ends, depths = len(rows), list[float](), 0
        drawn = 0
        for event in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            row = first + len(ends)
            ends.append(event["ts"] + event["dur"])
            depths = max(depths, len(ends))
            colour = _colour(event, drawn)
            drawn += colour in (OPERATION, ALTERNATE)
            title = event["args"].get("job", event["name"])
            bars.append(Bar(title, event["ts"] / 1e3, event["dur"] / 1e3, row, colour))
        rows += [name if depth == 0 else "" for depth in range(depths)]
    return bars, rows


def _colour(event: dict[str, Any], count: int) -> str:
    if event["name"].startswith("task "):
        return TASK
    if event["name"].startswith("pass "):
        return COLOURS["passes"]
    return COLOURS.get(event["name"], (OPERATION, ALTERNATE)[count % 2])


def _panel(
    axes: Axes, title: str, extent: tuple[float, float], bars: Sequence[Bar], rows: Sequence[str]
) -> None:
    left, right = extent
    for row in range(len(rows)):
        shown = [b for b in bars if b.row == row and b.start < right and b.start + b.length > left]
        axes.broken_barh(
            [(b.start, b.length) for b in shown],
            (row - HEIGHT / 2, HEIGHT),
            facecolors=[b.colour for b in shown],
            edgecolors="white",
            linewidth=0.2,
        )
        for bar in shown:
            start, end = max(bar.start, left), min(bar.start + bar.length, right)
            text = "/".join(bar.name.split("/")[-2:])
            if len(text) <= WIDTH * (end - start) / (right - left):
                middle = (start + end) / 2
                axes.text(middle, row, text, ha="center", va="center", fontsize=7, clip_on=True)
    axes.set(xlim=extent, ylim=(len(rows) - 0.5, -0.5), xlabel="ms")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
