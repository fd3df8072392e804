"""Functions that several commands use: arguments, files, tables, colour, progress."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from teflon.errors import OptionError
from teflon.files import replace_file

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

COLOURS = {"good": "32", "bad": "31", "dim": "2", "bold": "1"}


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """Add --device and --option, for all commands that compile or run."""
    parser.add_argument(
        "--device",
        default=default,
        metavar="SPEC",
        help="auto, a driver's name, a node (/dev/accel/accel0), sim:CHIP, CHIP (compile only)"
        " or cpu (default: %(default)s, or TEFLON_DEVICE if that is set)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the driver, such as strategy=mesa, or cpu=tflite (an installed TFLite"
        " runtime runs what the NPU leaves), threads=N, cache=FOLDER; may be repeated",
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=N,N,...",
        help="another shape of an input, where the model allows it; may be repeated",
    )


def number(text: str) -> float:
    """Return a finite number, for argparse."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"is {text}, must be finite")
    return value


def nonzero(text: str) -> float:
    """Return a finite number other than zero, for argparse."""
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("is 0, must be another number")
    return value


def check_target(path: Path) -> None:
    """Raise OptionError for an output file that cannot be written; call it before long work."""
    if path.is_dir():
        raise OptionError(f"{path}: is a folder, must be a file")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: cannot be written, there is no folder {path.parent}")


def check_recording(path: Path, option: str) -> None:
    """Raise OptionError for a recording's path, given with an option, that cannot be written."""
    if path.suffix.lower() != ".npz":
        raise OptionError(f"{option} {path}: must end in .npz")
    check_target(path)


def numbered(path: Path, number: int) -> Path:
    """Return the path of the first, second... of several recordings: FILE.npz, FILE-2.npz."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; after an error the old file is unchanged. Raises OptionError."""
    check_target(path)
    try:
        replace_file(path, data)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written, {error.strerror}") from error


def driver_options(texts: Iterable[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts as a dict. Raises OptionError for a text without '='."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise OptionError(f"--option {text!r}: must be NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def input_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return NAME=1,2,3 texts as a dict. Raises OptionError."""
    found = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        numbers = [size.strip() for size in sizes.replace("x", ",").split(",")]
        if not equals or not name or not all(n.isascii() and n.isdigit() for n in numbers):
            raise OptionError(f"--shape {text!r}: must be NAME=N,N,... such as input=1,96,96,3")
        found[name] = tuple(map(int, numbers))
    return found


def mesa_options(text: str) -> dict[str, Any]:
    """Parse options as Mesa's classification.py does: `k1: v1; k2: v2`; values may contain colons.

    Raises OptionError for a part without a colon.
    """
    found = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, colon, value = part.partition(":")
        if not colon:
            raise OptionError(f"delegate option {part!r}: must be 'name: value'")
        found[name.strip()] = value.strip()
    return found


def colourful(stream: TextIO) -> bool:
    """Whether to write colours to a stream: it is a terminal and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return text in a colour of COLOURS if stdout shows colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colourful(sys.stdout) else text


class Counted(Protocol[T_co]):
    """Items whose number is known before they are read."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...


def progress(items: Counted[T], what: str, unit: str) -> Iterator[T]:
    """Yield the items, with a progress bar on stderr after a second if that is a terminal."""
    from tqdm import tqdm

    yield from tqdm(items, what, unit=unit, delay=1.0, disable=None, leave=False)


_LONGEST = 48
"""Characters of a name in a table."""


def brief(name: str) -> str:
    """Return an operation's name short enough for a table; `--json` has it whole.

    Converters join the names of all operations that became one, with semicolons: the first one is
    shown, and how many more there are. Of a long one the end is shown.
    """
    first, *others = name.split(";")
    shown = first if len(first) <= _LONGEST else f"...{first[3 - _LONGEST :]}"
    return f"{shown} (+{len(others)})" if others else shown


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Return rows as aligned columns, numbers to the right, without blanks at line ends."""
    body = [list(row) for row in rows]
    texts = [[_cell(c) for c in row] for row in body]
    lines = [list(header), *texts] if header else texts
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = [bool(body) and all(isinstance(row[i], int | float) for row in body)
             for i in range(len(widths))]  # fmt: skip
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", " ")
    return str(value)
