"""Measure compile time without the cache, in this process and in a new one.

python benchmarks/compile_time.py [--device sim:rk3588] [--runs 5]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import Row, arguments, at_hand, best_ms, compiled, description, show
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.pipe import Device


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    rows = [_row(name, path, device, options.runs) for name, path in at_hand(options.models)]
    show("Cold compile, milliseconds (best of the runs)", rows, options, "compile_time")
    return 0


def _row(name: str, path: Path, device: Device, runs: int) -> Row:
    graph = read_graph(path)
    return {
        "model": name,
        "operations": len(graph.ops),
        "read": best_ms(lambda: read_graph(path), runs)[0],
        "plan": best_ms(lambda: plan_model(graph, device), runs)[0],
        "plan and compile": best_ms(lambda: compiled(graph, device), runs)[0],
        "new process": _new_process(path, device),
    }


def _new_process(path: Path, device: Device) -> float:
    """Return the milliseconds of `teflon compile` from the shell, with the start of Python.

    The second run counts, as for a user: the first one writes the bytecode of the modules.
    """
    script = "import sys; from teflon.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(prefix="teflon-") as folder:
        arguments = ["compile", str(path), "--device", device.chip, "-o", f"{folder}/m.teflon"]
        kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-P", "-c", script, *arguments],
                stdout=subprocess.DEVNULL,
                check=True,
                env={**os.environ, "TEFLON_CACHE": "off", **kept},
            )
            took = (time.perf_counter() - start) * 1e3
        return took


if __name__ == "__main__":
    sys.exit(main())
