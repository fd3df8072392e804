"""Write the table of register values that recordings of Mesa and the vendor's lists contain.

    python -m tools.make_witnesses

Reads golden/rocket and vendor/rocket of the shared folder, writes teflon_rocket/witnesses.txt.
A test fails when the file differs from what this tool writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from teflon_common import recording
from teflon_rocket import witnesses
from teflon_rocket.dialect import RocketDialect
from teflon_rocket.registers import ENABLE_TARGET
from teflon_rocket.witnesses import Fact, facts
from tests.paths import GOLDEN
from tests.rocket import vendor
from tests.rocket.vendor_file import Network, read

HEAD = (
    "# Register values that stand in recordings of Mesa (m) and in the vendor's lists (v).\n"
    "# Made by tools/make_witnesses.py: do not edit. teflon_rocket/witnesses.py says how to read.\n"
)
Words = list[int]


def mesa_lists() -> Iterator[Words]:
    """Yield every command list that Mesa submitted in a recording."""
    dialect = RocketDialect()
    for path in sorted((GOLDEN or Path()).glob("rocket/*.npz")):
        recorded = recording.read(path)
        for entry in recorded.submits:
            for address, size in dialect.commands(entry):
                data = recorded.commands(entry["submit"], address, size)
                yield np.frombuffer(data, "<u8").tolist()


def vendor_lists(cut_ones: bool = True) -> Iterator[Words]:
    """Yield every command list of the vendor's files; short ones are made complete.

    Where only the words of a file are at hand, short lists stay as they are; cut_ones: with these.
    """
    compiled = {path.stem: path for path in sorted(vendor.FOLDER.glob("*.rknn"))}
    for path in compiled.values():
        yield from complete(read(path))
    for path in sorted(vendor.FOLDER.glob("*_words.json")) if cut_ones else ():
        if path.stem.removesuffix("_words") not in (compiled.keys() - {"emax"}):  # two networks
            yield from cut(path)


def complete(net: Network) -> Iterator[Words]:
    """Yield the lists of a network, for one, two and three cores."""
    for cores in vendor.CORES if len(net.words) else ():
        states = [vendor.Core() for _ in range(cores)]
        for step in vendor.steps(net, cores):
            for task in step.tasks:
                words = vendor.ends(net.words, net.tasks[task].first)
                yield states[step.core].complete(words)


def cut(path: Path) -> Iterator[Words]:
    """Yield the lists of a file of words: each ends with the word that starts the units."""
    for part in json.loads(path.read_text()):
        words = np.array([int(word, 16) for word in part["words"]], "<u8")
        first = 0
        while np.any(words[first:] >> np.uint64(48) == ENABLE_TARGET):
            found = vendor.ends(words, first)
            first += len(found)
            yield found


def known() -> dict[Fact, str]:
    """Return all facts, with the letters of those who witness them."""
    found: dict[Fact, str] = {}
    for letter, lists in (("m", mesa_lists()), ("v", vendor_lists())):
        for words in lists:
            for fact in facts(words):
                if letter not in found.get(fact, ""):
                    found[fact] = found.get(fact, "") + letter
    return found


def content() -> str:
    """Return what the table must hold."""
    return HEAD + witnesses.text(known())


def short() -> list[frozenset[Fact]]:
    """Return the facts of complete lists that do not write all registers of the table: none."""
    lists = [*mesa_lists(), *vendor_lists(cut_ones=False)]
    return [found for found in map(facts, lists) if witnesses.unwritten(found)]


def main() -> int:
    """Write the table."""
    if GOLDEN is None or not vendor.FOLDER.is_dir():
        print("no shared folder: set TEFLON_SHARED to the one with golden and vendor")
        return 1
    witnesses.TABLE.write_text(content())
    print(f"{witnesses.TABLE}: {len(witnesses.table())} facts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
