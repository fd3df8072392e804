"""The table of support as Markdown and JSON: which cases pass, which run on the CPU and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NOTE = "<!-- Made by the conformance kit (docs/testing.md): do not edit. -->"
FORMS = ("u8", "i8", "i8-axis")
CONTRACT = "contract"

Row = Mapping[str, str]  # op, form, status, reason
Matrix = Mapping[str, Mapping[str, Row]]  # device -> case -> row


def to_json(matrix: Matrix) -> str:
    """Return the matrix as JSON, with one case in each line."""
    devices = []
    for device in sorted(matrix):
        cases = matrix[device]
        rows = [f"  {json.dumps(name)}: {json.dumps(dict(cases[name]))}" for name in sorted(cases)]
        devices.append(f"{json.dumps(device)}: {{\n" + ",\n".join(rows) + "\n}")
    return "{" + ",\n".join(devices) + "}\n"


def from_json(text: str) -> Matrix:
    """Return the matrix that `to_json` wrote."""
    found: Matrix = json.loads(text)
    return found


def to_markdown(matrix: Matrix) -> str:
    """Return the matrix as a page in Markdown."""
    head = f"""{NOTE}
# Support by chip

What the conformance kit found: of each operation, how many of its cases the chip computed within
one step of TFLite's reference kernels. What a chip does not take runs on the CPU.
Columns: uint8; int8 with one scale for all weights; int8 with a scale for each output channel.
"""
    return "\n".join([head, *(_device(device, matrix[device]) for device in sorted(matrix))])


def _device(device: str, cases: Mapping[str, Row]) -> str:
    ops = [op for op in dict.fromkeys(row["op"] for row in cases.values()) if op != CONTRACT]
    table = ["| operation | u8 | i8 | i8-axis |", "| --- | --- | --- | --- |"]
    for op in sorted(ops, key=lambda op: (op == "wirings", op)):
        cells = [_cell(_of(cases, op, form)) for form in FORMS]
        title = "additions in every wiring" if op == "wirings" else f"`{op}`"
        table.append(f"| {title} | {' | '.join(cells)} |")
    contract = [row for row in cases.values() if row["op"] == CONTRACT]
    kept = sum(row["status"] == "Pass" for row in contract)
    promises = f"Promises of the interface: {kept} of {len(contract)} kept"
    return "\n".join([f"## {device}\n", *table, "", f"{promises}.", *_wrong(cases), *_why(cases)])


def _of(cases: Mapping[str, Row], op: str, form: str) -> list[Row]:
    return [row for row in cases.values() if (row["op"], row["form"]) == (op, form)]


def _cell(rows: Iterable[Row]) -> str:
    count = Counter(row["status"] for row in rows)
    total, passed, skipped = sum(count.values()), count["Pass"], count["Skip"]
    if not total:
        return ""
    wrong = total - passed - skipped
    text = "yes" if passed == total else f"{passed} of {total}" if passed else "no"
    return text + (f", {wrong} wrong" if wrong else "")


def _wrong(cases: Mapping[str, Row]) -> list[str]:
    wrong = {n: row for n, row in cases.items() if row["status"] not in ("Pass", "Skip")}
    if not wrong:
        return []
    return ["\nWrong:\n", *(f"- `{n}`: {row['reason']}" for n, row in sorted(wrong.items()))]


def _why(cases: Mapping[str, Row]) -> list[str]:
    """Return the rules because of which cases are not supported, with the number of cases."""
    count: Counter[str] = Counter()
    for row in cases.values():
        if row["status"] == "Skip" and row["op"] != CONTRACT:
            for reason in row["reason"].split("; "):
                count[re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)$", "", reason)] += 1
    listed = [f"- {reason} ({number})" for reason, number in sorted(count.items())]
    return ["\nLeft to the CPU, with the number of cases:\n", *listed, ""] if listed else [""]


class Collector:
    """Collects the outcomes of the kit's tests from all processes; writes both files at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Row]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add the outcome in the report of a test."""
        if report.when != "call":
            return
        for key, value in report.user_properties:
            if key == "npu":
                self.found.setdefault(value["device"], {})[value["case"]] = value["row"]

    def pytest_sessionfinish(self) -> None:
        """Write Markdown and JSON."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.with_suffix(".json").write_text(to_json(self.found), encoding="utf-8")
        self.path.with_suffix(".md").write_text(to_markdown(self.found), encoding="utf-8")
