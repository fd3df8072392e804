"""Predict how the cores of one chip serve cameras: frames per second, latency, a picture.

    python benchmarks/streams.py [--models mobiledet] [--out out/bench]

The simulated chip runs the compiled programs. Its kernel and its clock decide which core runs a job
and for how long (`teflon.timing.streams`). Conversions, and operations on the CPU, take the time
that `teflon estimate` predicts. Nothing here was measured on a chip.

A worker is one opening of the device. Its threads are the inferences that it works on at the same
time, its copies the sets of buffers for them. `teflon.load(cores=3)` has three workers with two
threads and two copies each. With memory `shared`, all busy cores wait for one memory: every access
takes three times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from common import Row, arguments, at_hand, description, show
from teflon.compile.artefact import Artefact
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.timing import chart
from teflon.timing.streams import Cameras, Service, serve

CHIP = "rk3588"
CAMERAS = Cameras(streams=4, fps=30)
CASES = (
    (1, 1, 1, "free"),
    (3, 1, 1, "free"),
    (3, 2, 1, "free"),
    (3, 2, 2, "free"),
    (4, 1, 1, "free"),
    (6, 1, 1, "free"),
    (3, 2, 1, "shared"),
    (3, 2, 2, "shared"),
)
"""Workers, threads of each worker, copies of each worker, memory."""
DRAWN, MILLISECONDS = (3, 2, 2, "free"), 300.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve and print."""
    options = arguments(__doc__, argv)
    rows: list[Row] = []
    for name, path in at_hand([n for n in options.models if n == "mobiledet"] or options.models):
        made = compile_graph(read_graph(path), description(CHIP), NONE)
        for case in CASES:
            service = run(made, *case)
            rows.append(row(name, service, case[-1]))
            if case == DRAWN:
                options.out.mkdir(parents=True, exist_ok=True)
                picture = options.out / f"streams_{name}.svg"
                picture.write_bytes(chart.svg(service.gantt(MILLISECONDS)))
                print(f"({picture})")
    title = f"{CAMERAS.streams} cameras of {CAMERAS.fps:g} frames/s on {CHIP}, modelled"
    show(title, rows, options, "streams")
    return 0


def run(made: Artefact, workers: int, threads: int, copies: int, memory: str) -> Service:
    """Serve the cameras. Raises RuntimeError if the schedule has a problem."""
    cameras = replace(CAMERAS, workers=workers, threads=threads, copies=copies)
    service = serve(made, cameras, {"memory": memory})
    if wrong := service.problems():
        raise RuntimeError(wrong[0])
    return service


def row(name: str, service: Service, memory: str) -> Row:
    """Return one row of the table."""
    rates, (median, most) = service.rates(), service.latency()
    jobs = sum(service.schedule.busy()) / len(service.served)
    return {
        "model": name, "workers": service.cameras.workers, "threads": service.cameras.threads,
        "copies": service.cameras.copies, "memory": memory, "core ms": jobs,
        "frames/s of a camera": min(rates), "best camera": max(rates), "median ms": median,
        "95 % ms": most, "cores busy %": 100 * service.utilisation(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
