"""Lists of known failures of a chip, in three files as in Mesa's CI.

`<driver>-<chip>-fails.txt`   NAME,STATUS: the case must end with this status
`<driver>-<chip>-skips.txt`   regular expressions: cases whose whole name matches are not run
`<driver>-<chip>-flakes.txt`  regular expressions: cases that may pass or fail

STATUS is Fail, Crash, Skip or Pass; NAME may end in `*`. Text after `#` is a comment, with the
reason. A case that is in no list must pass, or be unsupported with a reason (Skip).
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
    def read(cls, folder: Path | None, name: str) -> Expectations:
        """Return the lists of `<driver>-<chip>`; a missing file is an empty list.

        Raises OptionError for a missing folder, and for a malformed line.
        """
        if folder is None:
            return cls()
        if not folder.is_dir():
            raise OptionError(f"--npu-expectations: {folder} is not a folder, must be one")
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
        """Return the status of a case in the list of fails; None if it is not in the list."""
        return next((status for listed, status in self.fails if _fits(listed, name)), None)

    def verdict(self, name: str, outcome: Outcome) -> str:
        """Return what is unexpected about an outcome; empty if it is as expected."""
        want, have = self.expected(name), outcome.status
        if want is None:
            return outcome.reason if have in (Status.FAIL, Status.CRASH) else ""
        if have is want:
            return ""
        if have is Status.PASS:
            return f"unexpected pass: must end in {want.value} (remove it from the list)"
        return f"ended in {have.value}, must end in {want.value}: {outcome.reason}"

    def stale(self, names: Iterable[str]) -> list[str]:
        """Return the entries of the lists that match no case."""
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
            f"{file}:{number}: {line!r} is not a regular expression ({error});"
            " write \\[ and \\] for the brackets of a name"
        ) from error
    return line
