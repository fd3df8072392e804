"""The end of a program with work under way: no hang, no crash, no noise."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import sys, threading, time
import numpy as np
import teflon
from teflon.samples.models import resolve

image = np.zeros((1, 8, 8, 1), np.int8)
device, cores = sys.argv[1:]
model = teflon.load(resolve("digits_int8"), device, cores=int(cores), cache="off")
def infer():
    while True:
        model(image)
"""

ENDS = {
    "nothing": "model(image)",
    "queued": "futures = [model.submit(image, stream=n) for n in range(40)]",
    "daemons": "for _ in range(3): threading.Thread(target=infer, daemon=True).start()\n"
    "time.sleep(0.1)",
    "exit in a thread": "thread = threading.Thread(target=lambda: (model(image), sys.exit(3)))\n"
    "thread.start()",
    "exception": "model.submit(image)\nraise SystemExit('the end')",
    "map": "items = model.map([image] * 20); next(items)",
    "cycle": "model.self = model; model.held = [model.submit(image) for _ in range(2)]",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("device", "cores"), [("cpu", 1), ("sim:rk3588", 3), ("sim:a311d", 1), ("sim:rk3588", 1)]
)
def test_the_interpreter_ends(device: str, cores: int, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-X", "dev", "-W", "ignore", "-c", BEGIN + ENDS[end], device,
         str(cores)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    wanted = (1, "the end\n") if end == "exception" else (0, "")
    assert (done.returncode, done.stderr) == wanted
