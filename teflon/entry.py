"""The first module of the command `teflon`: from here on, Ctrl-C ends it without a traceback.

It imports nothing of ours before its handler is in place.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended."""

SECONDS = 0.7
"""How long an interrupted command may close files and devices; nobody waits for an inference."""

_IMPORTS = "<frozen importlib"
"""How the files of the frames begin that import a module."""


def main() -> int:
    """Run the command line; return its exit status."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return _command()  # ignored since the start: `nohup`, or a job in the background
    signal.signal(signal.SIGINT, _interrupted)
    sys.unraisablehook = _unraisable
    try:
        code = _command()
    except KeyboardInterrupt:
        _leave()
    if code == INTERRUPTED:  # threads may still be in loops in C, or in a runtime
        os._exit(code)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and soon no handler is left
    return code


def _command() -> int:
    from teflon.cli import main as command

    return command()


def _interrupted(_number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not inside an import: much there catches or reports it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTS):
            _leave()
        frame = frame.f_back
    signal.signal(signal.SIGALRM, _leave)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    raise KeyboardInterrupt


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """End where the interrupt came into a destructor, which cannot raise it."""
    if found.exc_type is KeyboardInterrupt:
        _leave()
    sys.__unraisablehook__(found)


def _leave(*_: object) -> NoReturn:
    """End the process at once. Files are complete or absent at any moment: they are renamed."""
    try:
        os.write(2, b"teflon: interrupted\n")
    finally:
        os._exit(INTERRUPTED)
