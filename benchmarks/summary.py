"""All figures in one table, beside those of an earlier commit.

    python benchmarks/summary.py [--before benchmarks/baseline.json] [--after out/bench]
        [--chart docs/performance.svg]

Reads what the other benchmarks wrote; `--keep COMMIT` writes the folder's figures as a baseline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teflon import chart
from teflon.cli.common import table, write_whole

ROOT = Path(__file__).resolve().parent
OUT = Path("out") / "bench"
Files = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One column of the table: where it is found and how it is called; small is good."""

    file: str
    title: str
    columns: tuple[str, ...]  # added up

    def value(self, files: Files, model: str, device: str) -> float | None:
        """Return the figure; None where it was not measured."""
        name = file_name(self.file, device)
        for row in files.get(name, {}).get("rows", ()):
            if row["model"] == model:
                found = [row[c] for c in self.columns if isinstance(row.get(c), int | float)]
                return float(sum(found)) if found else None
        return None


BUFFERS = ("weights B", "biases B", "regcmd B", "tensor B")
FIGURES = (
    Figure("compile_time", "cold compile, ms", ("plan and compile",)),
    Figure("compile_time", "teflon compile from the shell, ms", ("new process",)),
    Figure("load_time", "load, nothing cached, ms", ("cold",)),
    Figure("load_time", "load from the cache, ms", ("warm",)),
    Figure("load_time", "load a compiled file, ms", ("compiled",)),
    Figure("load_time", "compiled file, B", ("compiled B",)),
    Figure("sizes", "submits", ("submits",)),
    Figure("sizes", "jobs", ("jobs",)),
    Figure("sizes", "tasks", ("tasks",)),
    Figure("sizes", "buffers, B", BUFFERS),
    Figure("sizes", "programs, B", ("file B",)),
    Figure("host_time", "host time of an upload, ms", ("upload",)),
    Figure("host_time", "host time of an inference, ms", ("invoke",)),
    Figure("simulate", "simulated inference, ms", ("device", "sim:rk3588", "sim:a311d")),
    Figure("simulate", "simulated / TFLite, 2 threads", ("ratio",)),
    Figure("memory", "peak memory of a load, MiB", ("load",)),
    Figure("memory", "peak memory of an inference, MiB", ("invoke",)),
    Figure("estimate", "predicted on the chip, ms", ("predicted ms",)),
)


def file_name(name: str, device: str) -> str:
    """Return how a benchmark's file is called, without its suffix."""
    return f"{name}-{device.removeprefix('sim:')}"


def read(folder: Path) -> dict[str, Any]:
    """Return a folder's JSON files by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*-*.json"))}


def rows(before: Files, after: Files) -> list[dict[str, Any]]:
    """Return a row for each figure, model and device that was measured after."""
    devices = dict.fromkeys(f["device"] for f in after.values())
    found = []
    for device in devices:
        names = dict.fromkeys(
            row["model"] for f in after.values() if f["device"] == device for row in f["rows"]
        )
        for model in names:
            for figure in FIGURES:
                now = figure.value(after, model, device)
                then = figure.value(before, model, device)
                if now is not None:
                    found.append({"device": device, "model": model, "figure": figure.title,
                                  "before": then, "after": now})  # fmt: skip
    return found


def picture(found: Sequence[Mapping[str, Any]]) -> chart.Bars:
    """Return the chart: what is left of each figure that has a before, as a share of it."""
    bars: list[tuple[str, dict[str, float]]] = []
    for row in found:
        if row["before"]:
            chip = row["device"].removeprefix("sim:")
            share = round(100 * row["after"] / row["before"], 1)
            bars.append((f"{chip} {row['model']}: {row['figure']}", {"after": share}))
    return chart.Bars("What is left of each figure (before: 100)", "%", bars)


def shown(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as text."""
    body = [
        (r["device"], r["model"], r["figure"], _number(r["before"]), _number(r["after"]), _gain(r))
        for r in found
    ]
    return table(body, ("device", "model", "figure", "before", "after", "times better"))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:.2f}"


def _gain(row: Mapping[str, Any]) -> str:
    return f"{row['before'] / row['after']:.2f}" if row["before"] and row["after"] else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write it as JSON, draw the chart if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, default=ROOT / "baseline.json", metavar="FILE")
    parser.add_argument("--after", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--chart", type=Path, metavar="FILE")
    parser.add_argument("--keep", metavar="COMMIT", help="write a baseline of that commit instead")
    options = parser.parse_args(argv)
    after = read(options.after)
    if options.keep:
        kept = {"commit": options.keep, "files": after}
        write_whole(options.before, (json.dumps(kept, indent=1) + "\n").encode())
        return 0
    before = json.loads(options.before.read_text()) if options.before.exists() else {}
    found = rows(before.get("files", {}), after)
    print(f"\nAll figures; before: commit {before.get('commit', 'none')}")
    print(shown(found))
    write_whole(options.after / "summary.json", (json.dumps(found, indent=1) + "\n").encode())
    if options.chart:
        write_whole(options.chart, chart.FORMATS[options.chart.suffix](picture(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
