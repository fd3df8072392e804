"""Measure the peak memory of compiling a model, of loading it, and of running it once.

    python benchmarks/memory.py [--device sim:rk3588]

Each figure is the largest resident size of a new process, less the size of a process that only
imports the package. The compile cache is off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common import Row, arguments, at_hand, show

SCRIPT = """
import sys
import numpy
import teflon, teflon.run.model, teflon.frontend.tflite.reader
path, device, what = sys.argv[1:]
if what != "import":
    model = teflon.load(path, device.removeprefix("sim:") if what == "compile" else device)
    if what == "invoke":
        model.run(*(numpy.zeros(i.shape, i.dtype) for i in model.inputs))
status = open('/proc/self/status').read()  # ru_maxrss would begin with the parent's
print(status.split('VmHWM:')[1].split()[0])
"""
PHASES = ("compile", "load", "invoke")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    rows = [_row(name, path, options.device) for name, path in at_hand(options.models)]
    show("Peak memory, MiB", rows, options, "memory")
    return 0


def _row(name: str, path: Path, device: str) -> Row:
    idle = _peak(path, device, "import")
    peaks = {phase: round(_peak(path, device, phase) - idle, 1) for phase in PHASES}
    return {"model": name, "file": round(path.stat().st_size / 2**20, 1), **peaks}


def _peak(path: Path, device: str, what: str) -> float:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(path), device, what],
        check=True, capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TEFLON_CACHE": "off"},
    )  # fmt: skip
    return int(done.stdout) / 1024


if __name__ == "__main__":
    sys.exit(main())
