"""Print all figures in one table, beside those of an earlier commit and the aims.

    python benchmarks/summary.py [--before benchmarks/baseline.json] [--after out/bench]
        [--chart docs/performance.svg]

The tool reads the JSON files of the other benchmarks. `--keep COMMIT` writes their figures as a
baseline instead. Times of two machines cannot be compared. So the table multiplies the earlier
times by the ratio of two times of TFLite's own kernels (MobileNetV1, one thread): now, and then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teflon.cli.common import table, write_whole
from teflon.timing import chart

ROOT = Path(__file__).resolve().parent
OUT = Path("out") / "bench"
Files = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure: the benchmark's file, the title and the columns. Smaller is better."""

    file: str
    title: str
    columns: tuple[str, ...]  # their sum is the figure
    only: tuple[str, object] | None = None  # take the row with this value in this column

    @property
    def measured(self) -> bool:
        """Whether it is a time of this machine, and not a count, a ratio or a prediction."""
        return self.title.endswith((", ms", ", s")) and self.file not in ("estimate", "latency")

    def value(self, files: Files, model: str, device: str) -> float | None:
        """Return the figure; None where it was not measured."""
        name = file_name(self.file, device)
        for row in files.get(name, {}).get("rows", ()):
            if row["model"] == model and (not self.only or row[self.only[0]] == self.only[1]):
                found = [row[c] for c in self.columns if isinstance(row.get(c), int | float)]
                value = float(sum(found)) if found else math.nan
                return None if math.isnan(value) else value
        return None


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
    Figure("sizes", "buffers, B", ("buffers B",)),
    Figure("sizes", "buffers / Mesa's", ("ours / Mesa",)),
    Figure("sizes", "programs, B", ("file B",)),
    Figure("host_time", "host time of an upload, ms", ("upload",)),
    Figure("host_time", "host time of an inference, ms", ("invoke",)),
    Figure("simulate", "simulated inference, ms", ("device",)),
    Figure("simulate", "simulated / TFLite, CPU time", ("CPU ratio",)),
    Figure("simulate", "simulated / TFLite, 2 threads", ("ratio",)),
    Figure("images", "a hundred images, simulated, s", ("set",)),
    Figure("memory", "peak memory of a compilation, MiB", ("compile",)),
    Figure("memory", "peak memory of a load, MiB", ("load",)),
    Figure("memory", "peak memory of an inference, MiB", ("invoke",)),
    Figure("estimate", "predicted on the chip, ms", ("predicted ms",)),
    Figure("latency", "predicted on three cores, ms", ("divided ms",), ("cores", 3)),
)
AIMS: Mapping[tuple[str, str, str], float] = {
    ("cold compile, ms", "sim:rk3588", "mobilenet_v1"): 100,
    ("cold compile, ms", "sim:a311d", "mobilenet_v1"): 230,
    ("cold compile, ms", "sim:imx8mp", "mobilenet_v1"): 160,
    ("cold compile, ms", "sim:rk3588", "mobiledet"): 200,
    ("cold compile, ms", "sim:a311d", "mobiledet"): 700,
    ("cold compile, ms", "sim:imx8mp", "mobiledet"): 190,
    ("load from the cache, ms", "sim:rk3588", "mobilenet_v1"): 20,
    ("load from the cache, ms", "sim:a311d", "mobilenet_v1"): 20,
    ("jobs", "sim:rk3588", "mobilenet_v1"): 6,  # two partitions
    ("buffers / Mesa's", "sim:rk3588", "mobilenet_v1"): 0.5,
    ("buffers / Mesa's", "sim:a311d", "mobilenet_v1"): 0.33,
    ("host time of an inference, ms", "sim:rk3588", "mobilenet_v1"): 0.5,
    ("host time of an inference, ms", "sim:a311d", "mobilenet_v1"): 0.16,
    ("simulated / TFLite, CPU time", "sim:rk3588", "mobilenet_v1"): 3,
    ("simulated / TFLite, CPU time", "sim:a311d", "mobilenet_v1"): 3,
    ("a hundred images, simulated, s", "sim:rk3588", "mobilenet_v1"): 20,
    ("a hundred images, simulated, s", "sim:a311d", "mobilenet_v1"): 20,
}
"""The aims: (figure, device, model) -> upper limit, on a machine with two cores."""


def file_name(name: str, device: str) -> str:
    """Return the name of a benchmark's file, without the suffix."""
    return f"{name}-{device.removeprefix('sim:')}"


def read(folder: Path) -> dict[str, Any]:
    """Return a folder's JSON files by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*-*.json"))}


def reference(files: Files) -> float | None:
    """Return the shortest time of TFLite for MobileNetV1 with one thread, over all runs."""
    found = [
        row["TFLite, 1 thread"]
        for name, file in files.items() if name.startswith("simulate-")
        for row in file["rows"] if row["model"] == "mobilenet_v1"
    ]  # fmt: skip
    return min(found, default=None)


def rows(before: Files, after: Files) -> list[dict[str, Any]]:
    """Return a row for each figure, model and device of the later run."""
    then, now = reference(before), reference(after)
    scale = now / then if then and now else None
    found = []
    for device in dict.fromkeys(f["device"] for f in after.values()):
        measured = (f for f in after.values() if f["device"] == device)
        names = dict.fromkeys(r["model"] for f in measured for r in f["rows"] if "model" in r)
        for model, figure in itertools.product(names, FIGURES):
            value = figure.value(after, model, device)
            old = figure.value(before, model, device)
            if figure.measured and old is not None:
                old = old * scale if scale else None
            if value is not None:
                found.append({"device": device, "model": model, "figure": figure.title,
                              "before": old, "after": value,
                              "aim": AIMS.get((figure.title, device, model))})  # fmt: skip
    return found


def kept(files: Files) -> dict[str, Any]:
    """Return the files with only those columns that the figures and the reference need."""
    columns: dict[str, set[str]] = {"simulate": {"TFLite, 1 thread"}}
    for figure in FIGURES:
        only = figure.only[:1] if figure.only else ()
        columns.setdefault(figure.file, set()).update((*figure.columns, *only))
    return {
        name: {
            "device": file["device"],
            "rows": [
                {k: v for k, v in row.items() if k == "model" or k in wanted}
                for row in file["rows"]
            ],
        }
        for name, file in files.items()
        if (wanted := columns.get(name.rpartition("-")[0]))
    }


DRAWN = "mobilenet_v1"
"""The model of the chart. The table has all models."""


def picture(found: Sequence[Mapping[str, Any]]) -> chart.Bars:
    """Return the chart: each figure in percent of its earlier value."""
    bars: list[tuple[str, dict[str, float]]] = []
    for row in found:
        if row["before"] and row["model"] == DRAWN and row["before"] != row["after"]:
            chip = row["device"].removeprefix("sim:")
            share = round(100 * row["after"] / row["before"], 1)
            bars.append((f"{chip}: {row['figure']}", {"after": share}))
    return chart.Bars(f"{DRAWN}: what is left of each figure (before: 100)", "%", bars)


def shown(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as text."""
    body = [
        (r["device"], r["model"], r["figure"], _number(r["before"]), _number(r["after"]), _gain(r),
         *_aimed(r)) for r in found
    ]  # fmt: skip
    header = ("device", "model", "figure", "before", "after", "times better", "aim", "")
    return table(body, header)


def _aimed(row: Mapping[str, Any]) -> tuple[str, str]:
    aim = row["aim"]
    if aim is None:
        return "", ""
    return f"{aim:g}", "reached" if row["after"] <= aim else "missed"


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
        baseline = {"commit": options.keep, "files": kept(after)}
        write_whole(options.before, (json.dumps(baseline, indent=1) + "\n").encode())
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
