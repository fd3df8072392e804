"""Mesa's packaged delegate on four virtual boards, as a table.

    python -m tests.upstream.table [--chip CHIP]... [--jobs N] [NAME ...]

A cell: operations on the NPU of all, the largest difference to TFLite's reference kernels in steps
of the outputs' types, and the verdict. Names may have * and ?.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch

from tests.paths import MISSING
from tests.upstream.cases import CHIPS, NAMES, WHOLE, Boards
from tests.upstream.sysroot import Missing, bring


@dataclass(frozen=True)
class Row:
    """One cell of the table."""

    chip: str
    name: str
    taken: int
    nodes: int
    difference: int | None
    verdict: str
    problems: tuple[str, ...]
    seconds: dict[str, float]

    def __str__(self) -> str:
        steps = "" if self.difference is None else f" {self.difference:>3}"
        return f"{self.taken}/{self.nodes}{steps} {self.verdict}"


def rows(chip: str, names: Sequence[str]) -> list[Row]:
    """Run models on one board. Raises Missing."""
    found = []
    with Boards.brought() as boards:
        for name in names:
            case = boards.case(chip, name)
            found.append(
                Row(chip, name, case.taken, len(case.run.nodes), case.difference, case.verdict,
                    tuple(case.problems()), case.run.seconds)
            )  # fmt: skip
    return found


def kind(name: str) -> str:
    """Return the group of a model in the summary."""
    if name in WHOLE:
        return name
    first = name.split("_")[0].split("-")[0]
    if first in ("mb", "mobiledet"):
        return f"layers of {'MobileNetV1' if first == 'mb' else 'MobileDet'}"
    signed = any(word.startswith("s8") for word in name.split("_"))
    return f"{first.removesuffix('2d')} {'int8' if signed else 'uint8'}"


def table(found: Iterable[Row]) -> str:
    """Return a line for each model and a column for each chip."""
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for row in found:
        cells[row.name][row.chip] = str(row)
    chips = [chip for chip in CHIPS if any(chip in line for line in cells.values())]
    lines = [["model", *chips]]
    lines += [[name, *(cells[name].get(chip, "") for chip in chips)] for name in sorted(cells)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(chips) + 1)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def summary(found: Iterable[Row]) -> str:
    """Return how many models of each kind ended in which way, as a Markdown table."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in found:
        counts[kind(row.name)][row.chip][str(row) if row.name in WHOLE else row.verdict] += 1
    lines = [f"| models | {' | '.join(CHIPS)} |", f"| --- |{' --- |' * len(CHIPS)}"]
    for name in sorted(counts):
        cells = [_ways(counts[name][chip], name in WHOLE) for chip in CHIPS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ways(ways: Counter[str], single: bool) -> str:
    """Return what a kind of models came to: how many are right first."""
    ordered = sorted(ways, key=lambda way: (way != "right", -ways[way], way))
    return ", ".join(way if single else f"{ways[way]} {way}" for way in ordered)


def times(found: Sequence[Row]) -> str:
    """Return how long models took on the emulated processor."""
    lines = []
    for chip in dict.fromkeys(row.chip for row in found):
        mine = [row.seconds for row in found if row.chip == chip]
        parts = dict.fromkeys(part for seconds in mine for part in seconds)
        means = (f"{part} {sum(s.get(part, 0.0) for s in mine) / len(mine):.3f} s"
                 for part in parts)  # fmt: skip
        lines.append(f"{chip}: {len(mine)} models, on average {', '.join(means)}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 1 if something is not as known, 3 where packages cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream.table")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all models")
    parser.add_argument("--chip", action="append", choices=CHIPS, help="default: all four")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    options = parser.parse_args()
    try:
        if MISSING:
            raise Missing(MISSING)
        sysroot = bring()
    except Missing as missing:
        sys.stderr.write(f"upstream: {missing}\n")
        return 3
    wanted = options.names or ["*"]
    names = [name for name in NAMES if any(fnmatch(name, one) for one in wanted)]
    parts = [names[n :: options.jobs] for n in range(options.jobs) if names[n :: options.jobs]]
    todo = [(chip, part) for chip in options.chip or CHIPS for part in parts]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = [row for part in pool.map(rows, *zip(*todo, strict=True)) for row in part]
    print(f"Mesa {sysroot.mesa}, package of {sysroot.version}\n\n{table(found)}\n")
    print(f"{summary(found)}\n\n{times(found)}")
    strange = [f"{row.chip} {row.name}: {what}" for row in found for what in row.problems]
    print("\n".join(["", "Not as known:", *strange] if strange else ["", "All as known."]))
    return bool(strange)


if __name__ == "__main__":
    sys.exit(main())
