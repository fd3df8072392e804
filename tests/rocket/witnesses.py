"""Which register values of all programs at hand no recording has, against a table of reasons.

    python -m tests.rocket.witnesses

prints them with an operation that has each, and what the table lacks or has too much.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from teflon.compile.cache import OFF, cache_for
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.errors import ModelError, UnsupportedOperation
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import RocketProgram
from teflon_rocket.witnesses import unwitnessed
from tests.paths import GOLDEN, MODELS, ROOT

REASONS = ROOT / "drivers" / "rocket" / "ci" / "unwitnessed.txt"


def models() -> list[Path]:
    """Whole public models, and the single operations that were recorded."""
    folders = (MODELS, GOLDEN / "models" if GOLDEN else None)
    return [path for folder in folders if folder for path in sorted(folder.rglob("*.tflite"))]


def programs(path: Path, device: RocketDevice) -> Iterator[RocketProgram]:
    """The programs of a model; none of a file that is damaged, as some of MODELS/odd are, or that
    no device can run.
    """
    try:
        made = compile_graph(read_graph(path), device, cache_for(OFF)).on_device()
    except (ModelError, UnsupportedOperation, OverflowError):
        return
    for _, program in made:
        assert isinstance(program, RocketProgram)
        yield program


def found() -> tuple[dict[str, str], int]:
    """Fact -> a model and an operation that has it; and the number of command lists."""
    device, facts, lists = RocketDevice("rk3588"), dict[str, str](), 0
    for path in models():
        for program in programs(path, device):
            lists += sum(len(job.tasks) for job in program.jobs)
            for one in unwitnessed(program):
                facts.setdefault(str(one.fact), f"{path.stem} {one.operations[0]}")
    return facts, lists


def reasons() -> dict[str, str]:
    """The table: fact -> why it must be right all the same."""
    lines = [line for line in REASONS.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split(": ", 1) for line in lines)


def main() -> int:
    """Print."""
    facts, lists = found()
    listed = reasons()
    for fact, example in sorted(facts.items()):
        print(f"{' ' if fact in listed else '+'} {fact}: {example}")
    for fact in sorted(set(listed) - set(facts)):
        print(f"- {fact}: no program has it")
    print(f"{len(facts)} values without a witness in {lists} command lists")
    return 0


if __name__ == "__main__":
    sys.exit(main())
