"""Run mutants of good inputs in a process with limits, and count how they end.

A module of this folder has `Kind`s and ends with `sys.exit(main(KINDS, __name__))`; then

    python -m tests.fuzz.MODULE --count 10000 --seed 1 --state out/fuzz.json

prints what was tried. Case number N of a seed is always the same. With `--state`, a run goes on
where the last one ended, with its counts. `--one N` runs one case in this process.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.fuzz.child import Child, Ended

Random = np.random.Generator

_SAVED = 500
"""Cases between two writes of the state."""
_LISTED = 40


class Mutant(NamedTuple):
    """A damaged input; `field` names what was changed: `relocs.offset`."""

    field: str
    data: bytes


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    seeds: returns good inputs; called once. mutate: returns one that is changed. run: uses it, and
    returns in a word how that ended ("refused", "ran"); what it raises is a defect. seconds and
    memory (bytes of address space) limit one case: to pass them is a defect too.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, Sequence[bytes]], Mutant]
    run: Callable[[bytes, Random], str]
    seconds: float = 5.0
    memory: int = 4 << 30


def case(kind: Kind, seeds: Sequence[bytes], seed: int, number: int) -> tuple[Mutant, Random]:
    """Return a case's input, and the source of what `run` chooses."""
    random = np.random.default_rng([seed, number])
    return kind.mutate(random, seeds), random


@dataclass
class Tally:
    """How many cases ended in which way.

    defects: what went wrong, and where ("raw TypeError program.py:12 load", "hang ...") -> (times,
    number of the first case).
    """

    seed: int
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    defects: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Tally:
        """Return the tally that `plain` returned."""
        defects = {text: (times, first) for text, (times, first) in plain["defects"].items()}
        outcomes, fields = Counter(plain["outcomes"]), Counter(plain["fields"])
        return cls(plain["seed"], plain["done"], outcomes, fields, defects)

    def plain(self) -> dict[str, Any]:
        """Return the tally for JSON."""
        return {**vars(self), "outcomes": dict(self.outcomes), "fields": dict(self.fields)}

    def add(self, ended: Ended) -> None:
        """Count a case."""
        self.done = ended.number + 1
        self.fields[ended.field] += 1
        self.outcomes[ended.outcome] += 1
        if ended.defect:
            times, first = self.defects.get(ended.defect, (0, ended.number))
            self.defects[ended.defect] = (times + 1, first)

    def text(self, name: str) -> str:
        """Return the counts for people; defects with the number of a case to look at."""
        outcomes = ", ".join(f"{n} {word}" for word, n in sorted(self.outcomes.items()))
        few = min(self.fields.values(), default=0)
        lines = [f"{name}: {self.done} inputs (seed {self.seed}): {outcomes}"]
        lines.append(f"  {len(self.fields)} fields, each changed {few} times or more")
        worst = sorted(self.defects.items(), key=lambda item: -item[1][0])
        lines += [f"  {times:>6} {what} (case {first})" for what, (times, first) in worst[:_LISTED]]
        if len(worst) > _LISTED:
            lines.append(f"  and {len(worst) - _LISTED} more places")
        return "\n".join(lines)


def run(
    module: str, kind: Kind, tally: Tally, until: int, deadline: float,
    seeds: Sequence[bytes] | None = None, saved: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Run the cases of a kind up to number `until`, or to a time on the monotonic clock.

    module: the module whose `KINDS` has the kind; seeds: those that are made already; saved:
    called now and then.
    """
    with tempfile.TemporaryDirectory(prefix="teflon-fuzz-") as folder:
        file = Path(folder) / "seeds"
        file.write_bytes(pickle.dumps(list(seeds or kind.seeds())))
        while tally.done < until and time.monotonic() < deadline:
            child = Child(module, kind.name, file, tally.seed, tally.done, until, kind.seconds)
            for ended in child.cases(deadline):
                tally.add(ended)
                if saved and tally.done % _SAVED == 0:
                    saved()


def main(kinds: Mapping[str, Kind], module: str, argv: Sequence[str] | None = None) -> int:
    """The command line of a module with kinds. Exits with 1 if a case showed a defect."""
    options = _options(kinds, argv)
    chosen = [kinds[name] for name in options.kind or kinds]
    if options.one is not None:
        return _one(chosen, options)
    name = _name_of(module)
    state = Path(options.state) if options.state else None
    kept = json.loads(state.read_text()) if state and state.exists() else {}
    tallies = {n: Tally.of(plain) for n, plain in kept.items()}

    def save() -> None:
        if state:
            part = state.with_suffix(".part")
            part.write_text(json.dumps({n: t.plain() for n, t in tallies.items()}, indent=1))
            part.replace(state)

    for kind in chosen:
        tally = tallies.setdefault(kind.name, Tally(options.seed))
        deadline = time.monotonic() + options.seconds
        try:
            run(name, kind, tally, tally.done + options.count, deadline, saved=save)
        finally:
            save()
            print(tally.text(kind.name), flush=True)
    return int(any(tallies[kind.name].defects for kind in chosen))


def _options(kinds: Mapping[str, Kind], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run mutants of good inputs and count their ends.")
    parser.add_argument("--count", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="limit of each kind")
    parser.add_argument("--kind", action="append", choices=list(kinds), help="default: all")
    parser.add_argument("--state", help="file with the counts, to go on from")
    parser.add_argument("--one", type=int, metavar="N", help="run case N of one kind, here")
    parser.add_argument("--write", metavar="FILE", help="with --one: write its input, do not run")
    return parser.parse_args(argv)


def _one(kinds: Sequence[Kind], options: argparse.Namespace) -> int:
    (kind,) = kinds
    mutant, random = case(kind, kind.seeds(), options.seed, options.one)
    print(f"{kind.name} {options.one}: {mutant.field}, {len(mutant.data)} bytes")
    if options.write:
        Path(options.write).write_bytes(mutant.data)
    else:
        print(kind.run(mutant.data, random))
    return 0


def _name_of(module: str) -> str:
    spec = getattr(sys.modules[module], "__spec__", None)
    return module if spec is None else str(spec.name)
