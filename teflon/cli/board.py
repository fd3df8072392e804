"""`teflon board`: runs any program on simulated NPUs behind device nodes."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from teflon.board import board, spec
from teflon.board.program import unreached
from teflon.board.server import ServedNode, Server
from teflon.cli.common import check_recording, driver_options, numbered, write_whole
from teflon.errors import OptionError

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the program too, so they are not passed on."""
HELD = (*FORWARDED, *FROM_TERMINAL)

SETTLE = 2.0
"""Seconds in which what the program has left must be closed."""
SHOWN = 20
"""Complaints of a node that are shown."""


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "board",
        help="run any program on simulated NPUs behind device nodes",
        usage="teflon board CHIP[,CHIP ...] [options] -- PROGRAM [ARGUMENT ...]\n"
        "       teflon board CHIP[,CHIP ...] [options] --serve FOLDER",
    )
    parser.add_argument(
        "chips", nargs="?", default="", metavar="CHIP[,CHIP ...]",
        help="the nodes: rk3588, a311d, DRIVER:CHIP, or other:NAME (a node of another kernel"
        " driver); each perhaps with @accelN or @renderDN",
    )  # fmt: skip
    parser.add_argument(
        "--serve", type=Path, metavar="FOLDER",
        help="serve the nodes for several programs and containers until a signal comes, and print"
        " the environment that they need",
    )  # fmt: skip
    parser.add_argument(
        "--record", type=Path, metavar="FILE.npz",
        help="record the requests to the nodes; further open files with jobs give FILE-2.npz, ...",
    )  # fmt: skip
    parser.add_argument(
        "--faults", action="append", default=[], metavar="RULES",
        help="NAME:CALL:WHAT[:TIMES] with commas between: SUBMIT:2:EIO, MMAP:1:ENOMEM:3,"
        " GEM_NEW:1:+0.5 (seconds late), JOB:1:HANG, JOB:2:BREAK",
    )  # fmt: skip
    parser.add_argument(
        "--speed", choices=("free", "real"), default="free",
        help="real: jobs take the time that the chip would take (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="an option of the driver's simulated chip; may be repeated",
    )  # fmt: skip
    parser.add_argument("--log", action="store_true", help="show every request on stderr")
    parser.add_argument(
        "--shim-source", action="store_true",
        help="print where the shim's C file is, and how to compile it for another architecture",
    )  # fmt: skip
    parser.set_defaults(run=run, program=[])
    whole = parser.parse_known_args

    def before_dashes(words: list[str], found: Any = None) -> Any:
        """Parse what is before `--`; the rest is the program, whatever its arguments look like."""
        cut = words.index("--") if "--" in words else len(words)
        parsed, unknown = whole(words[:cut], found)
        parsed.program = words[cut + 1 :]
        return parsed, unknown

    parser.parse_known_args = before_dashes


def run(options: argparse.Namespace) -> int:
    """Serve a board, for one program or until a signal; return the program's exit status."""
    if options.shim_source:
        print(_recipe())
        return 0
    program = options.program
    if not options.chips or bool(program) == (options.serve is not None):
        raise OptionError("board: needs chips, and either -- PROGRAM or --serve FOLDER")
    recordings = Recordings(options.record)
    # the board's threads inherit this: only this thread gets signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        return _on_board(program, options, recordings)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_board(program: Sequence[str], options: argparse.Namespace, recordings: Recordings) -> int:
    with board.Board(
        options.chips,
        options.serve,
        options=driver_options(options.option),
        faults=[rule for text in options.faults for rule in text.split(",") if rule.strip()],
        real_time=options.speed == "real",
        keep=recordings.keep if options.record else None,
        log=options.log,
    ) as served:
        code = _run(program, served) if options.serve is None else _serve(served)
        for node in served.server.settle(SETTLE if program else 0):
            sys.stderr.write(f"teflon board: {node}: is still open, its programs lose it now\n")
    _show_complaints(served.server)
    recordings.finish()
    if code < 0:
        _die_of(-code)
    return code


class Recordings:
    """Writes the recordings of a board's open files."""

    def __init__(self, target: Path | None) -> None:
        """Raises OptionError for a path that cannot be written."""
        if target is not None:
            check_recording(target, "--record")
            if not os.access(target.parent, os.W_OK):
                raise OptionError(f"--record {target}: cannot be written, no permission")
        self._target, self._count = target, 0
        self._failed: list[str] = []

    def keep(self, served: ServedNode, data: bytes) -> None:
        """Write one recording."""
        assert self._target is not None
        self._count += 1
        path = numbered(self._target, self._count)
        try:
            write_whole(path, data)
        except OptionError as error:
            self._failed.append(str(error))
        else:
            sys.stderr.write(f"{path}: {served.path}, {len(data)} bytes\n")

    def finish(self) -> None:
        """Say if there was nothing to record. Raises OptionError if a recording is lost."""
        if self._target is not None and not self._count:
            sys.stderr.write(f"{self._target}: not written, no program submitted a job\n")
        if self._failed:
            raise OptionError(f"--record {self._failed[0]}")


def _show_complaints(server: Server) -> None:
    """Show what a kernel log would have, what real kernels accept in silence, and rules for faults
    that no request met.
    """
    for rule in server.faults.unmet():
        sys.stderr.write(f"teflon board: fault {rule}: no such request came\n")
    for served in server.nodes:
        complaints = served.node.kernel.complaints
        for text in complaints[:SHOWN]:
            sys.stderr.write(f"teflon board: {served.path}: {text}\n")
        more = len(complaints) - SHOWN + getattr(complaints, "lost", 0)
        if more > 0:
            sys.stderr.write(f"teflon board: {served.path}: {more} more\n")


def _serve(served: board.Board) -> int:
    """Serve until SIGINT or SIGTERM."""
    board.allow_many_buffers()
    print(f"# {spec.summary(served.server.nodes)}")
    for name, value in served.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    signal.sigwait({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})
    return 0


def _run(program: Sequence[str], served: board.Board) -> int:
    """Run a program; return its exit status, or the signal that ended it as a negative number."""
    sys.stdout.flush()
    if text := unreached(program[0]):
        sys.stderr.write(f"{text}\n")
    with _Forward() as forward:
        try:
            child = subprocess.Popen(program, env=os.environ | served.environment())
        except OSError as error:
            raise OptionError(f"{program[0]}: cannot be run, {error.strerror}") from error
        board.allow_many_buffers()
        forward.to(child)
        return child.wait()


def _flush() -> None:
    if sys.stdout is not None:  # it was closed by who started us
        sys.stdout.flush()


class _Forward:
    """Passes signals on to the program; those of the terminal reach it without us."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in HELD:
            if signal.getsignal(number) != signal.SIG_IGN:  # what is ignored, the program ignores
                self._before[number] = signal.signal(number, self._pass)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """Set the program, and pass on what came before it."""
        self._child = child
        while self._early:
            child.send_signal(self._early.pop(0))

    def _pass(self, number: int, _: object) -> None:
        if self._child is None:
            self._early.append(number)
        elif number not in FROM_TERMINAL:
            self._child.send_signal(number)


def _die_of(number: int) -> None:
    """End this process by the signal that ended the program."""
    if number not in signal.valid_signals():  # those of the C library
        os._exit(128 + number)
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core is the program's, not ours
        signal.signal(number, signal.SIG_DFL)
    _flush()
    os.kill(os.getpid(), number)


def _recipe() -> str:
    path = board.source()
    options = f"-O2 -shared -fPIC -o {board.LIBRARY} {path} -ldl"
    return (
        f"{path}\n"
        f"  for arm64:  aarch64-linux-gnu-gcc {options}\n"
        "  then run:   teflon board CHIP -- env -u LD_PRELOAD qemu-aarch64 -L SYSROOT"
        f" -E LD_PRELOAD=$PWD/{board.LIBRARY} PROGRAM\n"
        "  (the emulator itself must not have this machine's shim: it would answer twice)\n"
        f"  for musl:   musl-gcc {options}\n"
        f"  then run:   teflon board CHIP -- env LD_PRELOAD=$PWD/{board.LIBRARY} PROGRAM"
    )
