"""The `teflon` command: one module per group of commands, each with `register(subparsers)`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

# Layers are small matrices: BLAS threads that wait for a busy core cost more than they save (cpu,
# MobileNetV1, two loaded cores: 0.1 s with one thread, 0.4 s with two). Before numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from teflon import debug
from teflon.cli import (
    caching,
    check,
    comparing,
    compiling,
    devices,
    estimating,
    interception,
    models,
    recordings,
    running,
    vision,
)
from teflon.errors import TeflonError
from teflon.plugins import discover

GROUPS = (
    devices,
    check,
    compiling,
    estimating,
    running,
    comparing,
    vision,
    recordings,
    interception,
    models,
    caching,
)

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="teflon",
        description="Run quantised models on open-driver NPUs, or on simulators of them.",
        epilog="TEFLON_DEBUG=help lists what can be shown while a command runs.",
    )
    top.add_argument("--version", action="version", version=f"teflon {_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in GROUPS:
        group.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 for bad input or a failure, 2 for wrong usage.

    Never raises: what went wrong is one sentence on stderr.
    """
    try:
        options = parser().parse_args(argv)
    except SystemExit as end:  # argparse has said everything already
        return end.code if isinstance(end.code, int) else USAGE
    run: Callable[[argparse.Namespace], int] = options.run
    return _guarded(lambda: run(options))


def _guarded(run: Callable[[], int]) -> int:
    try:
        if debug.wanted():
            discover()  # drivers add flags; unknown ones are named, help is printed
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        return _quietly_closed()
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except TeflonError as error:
        return _fail(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except MemoryError:
        return _fail("there is not enough memory for this")
    except Exception as error:  # a bug of ours or of a plugin: still one sentence
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


def _quietly_closed() -> int:
    """Let the interpreter's last flush go nowhere: whoever read our output has left."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _version() -> str:
    try:
        return version("teflon-npu")
    except PackageNotFoundError:
        return "(not installed)"
