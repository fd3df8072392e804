"""What one fault of the kernel does to a program: run in a process that sees the nodes.

    python -P tests/fault_client.py CONTROL PROGRAM INPUTS < rules, one cell per line

For every line (rules separated by commas) a compiled program is loaded, run twice and closed while
the faults are on; what failed is told, then everything is done again without faults. Prints one
JSON object per line: stage, error, text, seconds, left (what stayed open or mapped), works.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import teflon_rocket
from teflon.errors import TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Executable, Node, Program
from teflon_rocket import context as rocket_context

NODE = Node("/dev/accel/accel0", "rocket", "rk3588")


class Session:
    """The control socket, the program, and what it computes when nothing is wrong."""

    def __init__(self, control: str, program: str, inputs: str) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(control)
        self._lines = connection.makefile("rw")
        self.driver = teflon_rocket.teflon_driver()
        self.program: Program = self.driver.device("rk3588").load(Path(program).read_bytes())
        self.inputs: list[Array] = list(dict(np.load(inputs)).values())
        self.order("faults", rules=[])
        self.want = self.cycle().outputs
        self.clean = [name for name, _ in self.order("log")]

    def order(self, what: str, **more: Any) -> Any:
        self._lines.write(json.dumps({"do": what, **more}) + "\n")
        self._lines.flush()
        return json.loads(self._lines.readline())

    def right(self, outputs: list[Array]) -> bool:
        return all((have == want).all() for have, want in zip(outputs, self.want, strict=True))

    def cycle(self) -> Cycle:
        return Cycle(self).run()

    def left(self) -> list[str]:
        """Return what is still open, for the server and here."""
        gc.collect()
        end = time.monotonic() + 2
        while (status := self.order("status")[NODE.path])["files"] and time.monotonic() < end:
            time.sleep(0.002)
        found = [f"{status[what]} {what}" for what in ("files", "handles") if status[what]]
        mapped = Path("/proc/self/maps").read_text().count("teflon-bo")
        complaints: list[str] = status["complaints"]
        return found + ([f"{mapped} mappings"] if mapped else []) + complaints


class Cycle:
    """Open, load, run, run, close; stops at the first error and goes on without faults."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stage, self.error, self.text = "", "", ""
        self.recovered = True
        self.outputs: list[Array] = []

    def run(self) -> Cycle:
        context = self._step("open", lambda: self.session.driver.open(NODE))
        if context is None:
            return self
        executable = self._step("load", lambda: context.load(self.session.program))
        if executable is not None:
            for number in (1, 2):
                self._infer(f"inference {number}", context, executable)
        self._step("close", context.close)
        return self

    def _infer(self, stage: str, context: Context, executable: Executable) -> None:
        inputs = self.session.inputs
        found = self._step(stage, lambda: context.invoke(executable, inputs))
        if found is None:  # the same program, again
            self.session.order("faults", rules=[])
            found = self._step(f"after {stage}", lambda: context.invoke(executable, inputs))
            self.recovered = found is not None
        if found is not None:
            self.outputs = found
            want = getattr(self.session, "want", found)
            self.recovered &= all((h == w).all() for h, w in zip(found, want, strict=True))

    def _step(self, stage: str, act: Any) -> Any:
        try:
            return act()
        except TeflonError as error:
            if not self.stage:
                self.stage, self.error, self.text = stage, type(error).__name__, str(error)
            return None


def cell(session: Session, rules: str) -> dict[str, Any]:
    """Run one cell of the matrix."""
    session.order("faults", rules=rules.split(","))
    before = time.monotonic()
    cycle = session.cycle()
    seconds = time.monotonic() - before
    session.order("faults", rules=[])
    left = session.left()
    again = session.cycle()
    works = cycle.recovered and not again.stage and session.right(again.outputs)
    return {
        "rules": rules, "stage": cycle.stage, "error": cycle.error, "text": cycle.text,
        "seconds": round(seconds, 3), "left": left, "works": works and not session.left(),
    }  # fmt: skip


def main() -> None:
    """Run the cells of stdin."""
    faulthandler.dump_traceback_later(100, exit=True)
    teflon_rocket.SECONDS, rocket_context.JOB_SECONDS = 0.2, 0.05  # a lost job is lost soon
    session = Session(*sys.argv[1:])
    print(json.dumps(session.clean), flush=True)
    for line in sys.stdin:
        print(json.dumps(cell(session, line.strip())), flush=True)


if __name__ == "__main__":
    main()
