"""The `teflon` command: each module has a group of commands and adds them with `register`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence

# This must come before numpy is imported. Layers are small matrices: BLAS threads that wait for a
# busy core cost more than they save (cpu, MobileNetV1, two busy cores: 0.1 s with one thread,
# 0.4 s with two).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from teflon import debug
from teflon.errors import TeflonError

GROUPS: Mapping[str, Sequence[str]] = {
    "devices": ("devices", "delegate-path"),
    "check": ("check",),
    "compile": ("compile", "dump"),
    "estimate": ("estimate",),
    "quantize": ("quantize",),
    "run": ("run", "bench"),
    "compare": ("compare",),
    "classify": ("classify", "detect"),
    "record": ("record", "replay"),
    "intercept": ("intercept",),
    "board": ("board",),
    "models": ("models",),
    "cache": ("cache",),
}
"""Module -> its commands. Only the module of the given command is imported."""

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended


class _ShowVersion(argparse.Action):
    """The option --version; it looks for the version only when the option is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"teflon {_version()}")
        parser.exit()


def parser(groups: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of some groups of commands; by default of all."""
    top = argparse.ArgumentParser(
        prog="teflon",
        description="Run quantised models on open-driver NPUs, or on simulators of them.",
        epilog="TEFLON_DEBUG=help lists the debugging output that commands can show.",
    )
    top.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in GROUPS if groups is None else groups:
        importlib.import_module(f"teflon.cli.{group}").register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 for bad input or a failure, or 2 for wrong usage.

    Never raises: it prints an error as one sentence on stderr.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names in models and paths are any bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = parser(_groups(words)).parse_args(words)
    except SystemExit as end:  # argparse has printed the help or the error already
        return end.code if isinstance(end.code, int) else USAGE
    run: Callable[[argparse.Namespace], int] = options.run
    return _report_errors(lambda: run(options))


def _groups(words: Sequence[str]) -> list[str] | None:
    """Return the groups that a command line needs; None for all: help and errors list them."""
    first = words[0] if words else ""
    if first == "--version":
        return []
    return [group for group, commands in GROUPS.items() if first in commands] or None


def _report_errors(run: Callable[[], int]) -> int:
    try:
        if debug.active_flags():
            from teflon import plugins

            plugins.discover()  # drivers add flags; then unknown flags are reported
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        return _discard_output()
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except TeflonError as error:
        return _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError:
        return _fail("there is not enough memory for this")
    except Exception as error:  # a bug here or in a plugin: also one sentence
        return _fail(
            f"internal error, {type(error).__name__}: {error}"
            " (TEFLON_DEBUG=traceback shows where; please report it)"
        )
    return code


def _fail(text: str, code: int = FAILED) -> int:
    if debug.enabled("traceback"):
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stderr.write(f"teflon: {' '.join(text.split())}\n")
    return code


def _discard_output() -> int:
    """Discard the interpreter's last flush: the program that read our output has ended."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("teflon-npu")
    except PackageNotFoundError:
        return "(not installed)"
