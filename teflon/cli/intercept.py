"""`teflon intercept`: records the requests of any program to an NPU."""

from __future__ import annotations

import argparse
import contextlib
import importlib.resources
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from teflon import plugins
from teflon.cli.common import check_recording, numbered, write_whole
from teflon.errors import OptionError, RecordingError

LIBRARY = "libteflon-intercept.so"
VARIABLE = "TEFLON_INTERCEPT"


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "intercept",
        help="run any program and record its requests to an NPU",
        usage="teflon intercept -o FILE.npz -- PROGRAM [ARGUMENT ...]",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npz",
        help="the recording; further nodes or processes give FILE-2.npz, ...",
    )  # fmt: skip
    parser.add_argument("--keep-trace", type=Path, metavar="FOLDER", help="keep the raw traces too")
    parser.add_argument(
        "--library", action="store_true", help="print the path of the library, for LD_PRELOAD"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...")
    parser.set_defaults(run=intercept)


@contextlib.contextmanager
def library() -> Iterator[Path]:
    """Yield the path of the preload library. Raises OptionError if it was not built."""
    found = importlib.resources.files("teflon") / LIBRARY
    with importlib.resources.as_file(found) as path:
        if not path.is_file():
            raise OptionError(f"{path}: is not there, must be built (install teflon-npu on Linux)")
        yield path


def intercept(options: argparse.Namespace) -> int:
    """Run a program with the preload library and write recordings of its requests.

    Returns the program's exit code, or 1 if a signal ended it.
    """
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    with library() as path:
        if options.library:
            print(path)
            return 0
        if not program or options.output is None:
            raise OptionError("intercept: needs -o FILE.npz and, after --, a program to run")
        check_recording(options.output, "-o")
        with tempfile.TemporaryDirectory(prefix="teflon-intercept-") as folder:
            code = _run(program, path, Path(folder) / "trace")
            traces = sorted(Path(folder).iterdir())
            for trace in traces if options.keep_trace else ():
                options.keep_trace.mkdir(parents=True, exist_ok=True)
                shutil.copy(trace, options.keep_trace)
            if not traces:
                raise RecordingError(
                    f"{program[0]}: opened no device node, must talk to a DRM or accel node itself "
                    "(static and setuid programs cannot be intercepted)"
                )
            write_recordings(traces, options.output)
    return code if code >= 0 else 1


def _run(program: Sequence[str], preload: Path, prefix: Path) -> int:
    before = os.environ.get("LD_PRELOAD", "")
    environment = os.environ | {
        "LD_PRELOAD": f"{preload}:{before}" if before else str(preload),
        VARIABLE: str(prefix),
    }
    sys.stdout.flush()
    try:
        return subprocess.run(program, env=environment, check=False).returncode
    except OSError as error:
        raise OptionError(f"{program[0]}: cannot be run, {error.strerror}") from error


def write_recordings(traces: Sequence[Path], target: Path) -> None:
    """Write the recordings of traces to `target`, target-2, ... Raises RecordingError."""
    recorders = plugins.discover().recorders.values()
    found = [r for t in traces for recorder in recorders for r in recorder.from_trace(str(t))]
    if not found:
        raise RecordingError(
            f"{', '.join(t.name for t in traces)}: has no jobs for a node whose driver makes"
            " recordings, must have some (`teflon devices` lists the drivers)"
        )
    for number, data in enumerate(found, 1):
        path = numbered(target, number)
        write_whole(path, data)
        print(f"{path}: {len(data)} bytes")
