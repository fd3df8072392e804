"""A program that runs cells of the fault matrix, in a process that sees the nodes.

    python -P tests/kernel/fault_client.py CONTROL DRIVER CHIP NODE PROGRAM INPUTS < CELLS

CONTROL is the folder of the board. CELLS has a cell on each line. A cell is JSON: rules (of
teflon/board/faults.py), limit (seconds that an inference may take). For each cell, a compiled
program is loaded, run twice and closed while the faults are active. A step that fails is repeated
without faults and without opening the node again; then the next steps follow. The client prints one
JSON object for each cell: the first error with its stage, complaints of the kernel, seconds, left
(what stayed open or mapped), works (all inferences gave right results in the end).
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from teflon.board.control import Control
from teflon.errors import TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Driver, Executable, Node, Program

CELL_SECONDS = 100
"""A cell that takes longer hangs, even on a busy machine."""
CLOSED_SECONDS = 30
"""The server notices a closed file a little later."""


class Session:
    """The control socket, the program, and its right results."""

    def __init__(self, control: str, driver: str, chip: str, node: str, *files: str) -> None:
        self.order = Control(Path(control)).obey
        self.module: Any = importlib.import_module(f"teflon_{driver}")
        self.driver: Driver = self.module.teflon_driver()
        self.node = Node(node, driver, chip)
        program, inputs = map(Path, files)
        self.program: Program = self.driver.device(chip).load(program.read_bytes())
        self.inputs: list[Array] = list(dict(np.load(inputs)).values())
        self.want: list[Array] = []
        self.order("faults", rules=[])
        self.want = self.cycle(CELL_SECONDS).outputs
        self.clean = [name for name, _ in self.order("log")]

    def right(self, outputs: list[Array]) -> bool:
        return bool(outputs) and all(
            (have == want).all() for have, want in zip(outputs, self.want, strict=True)
        )

    def cycle(self, limit: float) -> Cycle:
        """Run a cycle; an inference that takes longer than `limit` seconds times out."""
        self.module.SECONDS = limit
        return Cycle(self).run()

    def complaints(self) -> list[str]:
        found: list[str] = self.order("status")[self.node.path]["complaints"]
        return found

    def left(self) -> list[str]:
        """Return what is still open in the server, and mapped in this process."""
        gc.collect()
        end = time.monotonic() + CLOSED_SECONDS
        while (status := self.order("status")[self.node.path])["files"]:
            if time.monotonic() > end:
                break
            time.sleep(0.002)
        found = [f"{status[what]} {what}" for what in ("files", "handles") if status[what]]
        mapped = Path("/proc/self/maps").read_text().count("memfd:teflon-bo")
        return found + ([f"{mapped} mappings"] if mapped else []) + self.complaints()


class Cycle:
    """Open, load, run, run, close."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stage, self.error, self.text = "", "", ""
        self.works = True
        self.complaints: list[str] = []
        self.outputs: list[Array] = []

    def run(self) -> Cycle:
        context = self._again("open", lambda: self.session.driver.open(self.session.node))
        if context is None:
            return self
        executable = self._again("load", lambda: context.load(self.session.program))
        if executable is not None:
            for number in (1, 2):
                self._infer(f"inference {number}", context, executable)
        self._step("close", context.close)
        self.complaints += self.session.complaints()
        return self

    def _infer(self, stage: str, context: Context, executable: Executable) -> None:
        inputs = self.session.inputs
        found = self._again(stage, lambda: context.invoke(executable, inputs))
        if found is not None:
            self.outputs = found
            self.works &= not self.session.want or self.session.right(found)

    def _again(self, stage: str, act: Any) -> Any:
        found = self._step(stage, act)
        if found is None:
            self.complaints += self.session.complaints()
            self.session.order("faults", rules=[])
            found = self._step(f"after {stage}", act)
            self.works &= found is not None
        return found

    def _step(self, stage: str, act: Any) -> Any:
        try:
            return act()
        except TeflonError as error:
            if not self.stage:
                self.stage, self.error, self.text = stage, type(error).__name__, str(error)
            return None


def cell(session: Session, order: dict[str, Any]) -> dict[str, Any]:
    """Run one cell of the matrix."""
    session.order("faults", rules=order["rules"])
    before = time.monotonic()
    cycle = session.cycle(order["limit"] or CELL_SECONDS)
    seconds = time.monotonic() - before
    session.order("faults", rules=[])
    return {
        "rules": ",".join(order["rules"]),
        "stage": cycle.stage, "error": cycle.error, "text": cycle.text,
        "complaints": cycle.complaints, "seconds": round(seconds, 3), "left": session.left(),
        "works": cycle.works,
    }  # fmt: skip


def main() -> None:
    """Run the cells of stdin."""
    faulthandler.dump_traceback_later(CELL_SECONDS, exit=True)
    session = Session(*sys.argv[1:])
    gc.collect()
    gc.freeze()  # existing objects stay for ever: later collections need not visit them
    print(json.dumps(session.clean), flush=True)
    for line in sys.stdin:
        faulthandler.dump_traceback_later(CELL_SECONDS, exit=True)
        print(json.dumps(cell(session, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
