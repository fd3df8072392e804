"""What is known to be wrong of a chip: the three lists that Mesa's CI keeps.

`<driver>-<chip>-fails.txt`   NAME,STATUS: the case must end so (Fail, Crash, Skip, Pass)
`<driver>-<chip>-skips.txt`   expressions: cases whose whole name matches are not run
`<driver>-<chip>-flakes.txt`  expressions: cases that may pass or not

A case that no list names must pass, or be refused with a reason (Skip). NAME may end in `*`. Text
from `#` on is a comment: the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from teflon.errors import OptionError
from teflon_common.conformance.bench import Outcome, Status


@dataclass(frozen=True)
class Expectations:
    """The lists of one chip."""

    fails: tuple[tuple[str, Status], ...] = ()
    skips: tuple[str, ...] = ()
    flakes: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path | None, name: str) -> Expectations:
        """Return the lists of `<driver>-<chip>`; files that are not there are empty lists.

        Raises OptionError for a folder that is missing, and for a line that says nothing.
        """
        if folder is None:
            return cls()
        if not folder.is_dir():
            raise OptionError(f"--npu-expectations: {folder} is not there, must be a folder")
        files = {kind: folder / f"{name}-{kind}.txt" for kind in ("fails", "skips", "flakes")}
        return cls(
            tuple(_status(files["fails"], number, line) for number, line in _lines(files["fails"])),
            tuple(_expression(files["skips"], n, line) for n, line in _lines(files["skips"])),
            tuple(_expression(files["flakes"], n, line) for n, line in _lines(files["flakes"])),
        )

    def skips_it(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.skips)

    def is_flake(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.flakes)

    def expected(self, name: str) -> Status | None:
        """Return how a case must end; None where no list says it."""
        return next((status for listed, status in self.fails if _fits(listed, name)), None)

    def verdict(self, name: str, outcome: Outcome) -> str:
        """Return what is unexpected about an outcome; empty where nothing is."""
        want, have = self.expected(name), outcome.status
        if want is None:
            return outcome.reason if have in (Status.FAIL, Status.CRASH) else ""
        if have is want:
            return ""
        if have is Status.PASS:
            return f"unexpected pass: must end in {want.value} (take it off the list)"
        return f"ended in {have.value}, must end in {want.value}: {outcome.reason}"

    def stale(self, names: Iterable[str]) -> list[str]:
        """Return what the lists name and no case is called."""
        known = list(names)
        found = [name for name, _ in self.fails if not any(_fits(name, n) for n in known)]
        patterns = (*self.skips, *self.flakes)
        return found + [p for p in patterns if not any(re.fullmatch(p, n) for n in known)]


def _fits(listed: str, name: str) -> bool:
    return name.startswith(listed[:-1]) if listed.endswith("*") else name == listed


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    if not file.exists():
        return
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if content := line.partition("#")[0].strip():
            yield number, content


def _status(file: Path, number: int, line: str) -> tuple[str, Status]:
    name, _, word = line.rpartition(",")
    known = [status.value for status in Status]
    if not name or word not in known:
        raise OptionError(
            f"{file}:{number}: is {line!r}, must be NAME,STATUS with one of {', '.join(known)}"
        )
    return name, Status(word)


def _expression(file: Path, number: int, line: str) -> str:
    try:
        re.compile(line)
    except re.error as error:
        raise OptionError(
            f"{file}:{number}: {line!r} is no regular expression ({error});"
            " brackets of a name are written \\[ and \\]"
        ) from error
    return line
