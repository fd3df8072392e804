"""How much of each model at hand runs on the NPU: a table, also beside an older version's.

python benchmarks/coverage.py [--json FILE] [--against FILE] [--python PYTHON] [MODEL ...]

Without models: all .tflite files in the folders of TEFLON_MODELS and in their subfolders `public`.
Files without 8-bit multiplications, and those made for another accelerator, are named and left
out: their element types and operators say so. `--python` is the interpreter of another version of
Teflon, which then counts; the files are chosen by this one. Operators that the IR does not have
count as operations, not as MACs. The predicted time is of the whole model, the host's part
included; `+` stands behind it where an operation runs nowhere, which has no time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choose import Kind, kind_of, paths_of
from teflon.cli.common import table

COLUMNS = ("MACs %", "operations %", "partitions", "jobs", "ms")

_COUNTING = """
import contextlib, io, json, sys
import teflon
from teflon.cli import main

device, *paths = sys.argv[1:]
for path in paths:
    row = {}
    try:
        with teflon.load(path, "sim:" + device, cache="off") as model:
            row["report"] = model.report().as_dict()
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main(["estimate", path, "--device", device, "--option", "cache=off", "--json"])
        row["estimate"] = json.loads(out.getvalue()) if not code else None
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(row), flush=True)
"""
"""What runs in the other interpreter: it uses only what all versions have."""


@dataclass(frozen=True)
class Row:
    """The figures of one model; `error` in place of them where it could not be counted."""

    macs: float  # percent of the model's; -1 where it has none
    operations: float  # percent of the model's, those included that other ones do as well
    partitions: int  # on the NPU
    jobs: int
    ms: float
    unknown: int = 0  # operations that nothing runs: not in the time
    left: tuple[str, ...] = ()  # kinds of operations that are not on the NPU, the most first
    error: str = ""

    @property
    def cells(self) -> list[object]:
        """The figures as the table has them."""
        if self.error:
            return ["-"] * len(COLUMNS)
        macs = "-" if self.macs < 0 else f"{self.macs:.1f}"
        more = "+" if self.unknown else ""
        return [macs, f"{self.operations:.1f}", self.partitions, self.jobs, f"{self.ms:.2f}{more}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print."""
    options = _arguments(argv)
    kinds = {path: kind_of(path) for path in paths_of(options.models)}
    chosen = {path: kind for path, kind in kinds.items() if not kind.reason}
    if not chosen:
        print("no 8-bit models (name files, or their folder in TEFLON_MODELS)")
        return 1
    rows = count(chosen, options.python, options.device)
    before = json.loads(options.against.read_text()) if options.against else {}
    older = {name: Row(**row) for name, row in before.get("rows", {}).items()}
    print(f"On the {options.device}'s NPU, of what each model multiplies and does:\n")
    print(shown(rows, older, bool(options.against)))
    print("\nLeft out:")
    out = [[path.stem, kind.reason] for path, kind in kinds.items() if kind.reason]
    print(table(sorted(out, key=lambda row: (row[1], row[0]))))
    if options.json:
        plain = {name: vars(row) for name, row in rows.items()}
        text = json.dumps({"device": options.device, "rows": plain}, indent=1)
        options.json.write_text(text + "\n")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--device", default="rk3588", metavar="CHIP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--against", type=Path, metavar="FILE", help="figures to print beside them")
    parser.add_argument("--python", default=sys.executable, help="of another version of Teflon")
    return parser.parse_args(argv)


def count(chosen: Mapping[Path, Kind], python: str, device: str) -> dict[str, Row]:
    """Return the figures of each model, by its name."""
    command = [python, "-P", "-c", _COUNTING, device, *map(str, chosen)]
    found: dict[str, Row] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for (path, kind), line in zip(chosen.items(), process.stdout or (), strict=False):
            found[path.stem] = _row(kind, json.loads(line))
    for path in chosen:
        found.setdefault(path.stem, _failed("the interpreter ended before it was counted"))
    return found


def _failed(error: str) -> Row:
    return Row(0.0, 0.0, 0, 0, 0.0, error=error)


def _row(kind: Kind, counted: Mapping[str, Any]) -> Row:
    if "error" in counted:
        return _failed(counted["error"])
    report, estimate = counted["report"], counted["estimate"] or {}
    npu = report["devices"][0]
    there = [op for op in report["operations"] if op["device"] == npu]
    parts = [part for part in report["partitions"] if part["device"] == npu]
    left = Counter(op["kind"] for op in report["operations"] if op["device"] != npu)
    folded = len(report["folded"])
    whole = max(kind.operations, len(report["operations"]))
    return Row(
        macs=100 * sum(op["macs"] for op in there) / kind.macs if kind.macs else -1.0,
        operations=100 * min(len(there) + folded, whole) / max(whole, 1),
        partitions=len(parts),
        jobs=sum(part["statistics"].get("jobs", 0) for part in parts),
        ms=estimate.get("totals", {}).get("ms", 0.0),
        unknown=len(estimate.get("nowhere", ())),
        left=tuple(f"{n} {name}" for name, n in left.most_common()),
    )


def shown(rows: Mapping[str, Row], older: Mapping[str, Row], beside: bool) -> str:
    """Return the table; with an older version's figures each column is there twice."""
    header = ["model", *COLUMNS, "not there"]
    if beside:
        header = ["model", *(f"{name}, {when}" for name in COLUMNS for when in ("before", "now")),
                  "not there"]  # fmt: skip
    lines: list[list[object]] = []
    for name, row in rows.items():
        last = row.error[:60] or ", ".join(row.left)
        cells = row.cells
        if beside:
            past = older.get(name, _failed("not counted")).cells
            cells = [cell for pair in zip(past, cells, strict=True) for cell in pair]
        lines.append([name, *cells, last])
    return table(lines, header)


if __name__ == "__main__":
    sys.exit(main())
