"""Cameras over the cores of one chip, with modelled time: frames per second, latency, a picture.

    python benchmarks/streams.py [--models mobiledet] [--out out/bench]

An inference takes what `teflon estimate` says: first the core, then the host (conversion, what runs
on the CPU). Workers are a pool's: each has one inference under way on a file of its own, whose jobs
the kernel gives to the core that is free first. `shared` is the case that all busy cores wait for
one memory: its part of the time counts once for each. Nothing here was measured on a chip.
"""

from __future__ import annotations

import heapq
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import Row, arguments, at_hand, description, show
from teflon.cache import NONE
from teflon.devices import CPU
from teflon.estimate import Estimate, estimate
from teflon.loading import load_graph
from teflon.runtime import compile_graph

CHIP, CORES, STREAMS, PERIOD = "rk3588", 3, 4, 1000 / 30
SECONDS = 4
WAITING = 2
"""Frames of a camera that may wait: an older one is left out for a newer one."""
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


@dataclass(frozen=True)
class Served:
    """One frame: when it came, on which core it ran from when to when, when its result was there;
    milliseconds.
    """

    stream: int
    arrival: float
    core: int
    start: float
    end: float
    done: float


def schedule(
    busy: float, host: float, workers: int, cores: int = CORES, streams: int = STREAMS
) -> list[Served]:
    """Return which frame runs where and when, as a pool of so many workers takes them."""
    frames = [
        [n * PERIOD + s * PERIOD / streams for n in range(round(SECONDS * 1000 / PERIOD))]
        for s in range(streams)
    ]
    served: list[Served] = []
    free, core_free, turns = [0.0] * workers, [0.0] * cores, [-1] * streams
    while any(frames):
        now = max(heapq.heappop(free), min(f[0] for f in frames if f))
        waiting = [s for s in range(streams) if frames[s] and frames[s][0] <= now]
        stream = min(waiting, key=lambda s: (turns[s], s))
        come = [at for at in frames[stream] if at <= now]
        arrival = come[-WAITING] if len(come) > WAITING else come[0]
        frames[stream] = [at for at in frames[stream] if at > arrival]
        core = min(range(cores), key=lambda c: core_free[c])
        start = max(now, core_free[core])
        core_free[core] = start + busy
        turns[stream] = len(served)
        served.append(Served(stream, arrival, core, start, start + busy, start + busy + host))
        heapq.heappush(free, served[-1].done)
    return served


def problems(served: Sequence[Served]) -> list[str]:
    """Return what cannot be: two frames on a core at once, or one before it came."""
    found = [f"{f}: starts before it came" for f in served if f.start < f.arrival]
    for core in {f.core for f in served}:
        runs = sorted((f for f in served if f.core == core), key=lambda f: f.start)
        pairs = itertools.pairwise(runs)
        found += [f"{b}: overlaps {a}" for a, b in pairs if b.start < a.end - 1e-9]
    for stream in {f.stream for f in served}:
        came = [f.arrival for f in served if f.stream == stream]
        found += [f"stream {stream}: out of order"] if came != sorted(set(came)) else []
    return found


def gantt(served: Sequence[Served], until: float) -> str:
    """Return an SVG: a line for each core, a box for each frame in its camera's colour."""
    left, step, scale = 60, 34, 900 / until
    cores = sorted({f.core for f in served})
    height = step * len(cores) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 920}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{left + 920}" height="{height}" fill="white"/>',
    ]
    lines += [f'<text x="8" y="{step * c + 28}">core {c}</text>' for c in cores]
    for f in served:
        if f.start < until:
            x, width = left + f.start * scale, (min(f.end, until) - f.start) * scale
            lines.append(
                f'<rect x="{x:.1f}" y="{step * f.core + 12}" width="{width:.1f}" height="24"'
                f' fill="{COLOURS[f.stream % len(COLOURS)]}" stroke="white"/>'
            )
    lines.append(f'<text x="{left}" y="{height - 8}">0 to {until:.0f} ms, modelled</text></svg>')
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Schedule and print."""
    options = arguments(__doc__, argv)
    rows: list[Row] = []
    for name, path in at_hand([n for n in options.models if n == "mobiledet"] or options.models):
        cost = _estimate(path)
        for workers, shared in ((1, 1), (3, 1), (6, 1), (3, 3), (6, 3)):
            rows.append(_row(name, cost, workers, shared))
        busy, host = _times(cost, 1)
        options.out.mkdir(parents=True, exist_ok=True)
        picture = options.out / f"streams_{name}.svg"
        picture.write_text(gantt(schedule(busy, host, 6), 300.0))
        print(f"({picture})")
    show(f"{STREAMS} cameras of 30 frames/s, {CORES} cores, modelled", rows, options, "streams")
    return 0


def _estimate(path: Path) -> Estimate:
    devices = [description(CHIP), description(CPU)]
    plan, programs = compile_graph(load_graph(path), devices, NONE)
    return estimate(plan, devices, programs)


def _times(cost: Estimate, shared: int) -> tuple[float, float]:
    """Return the milliseconds of core and host; memory's part taken `shared` times."""
    parts = [step.cost.milliseconds for step in cost.on_chip()]
    memory = sum(part.get("memory", 0.0) for part in parts)
    busy = sum(sum(part.values()) for part in parts)
    return busy + (shared - 1) * memory, cost.total_ms - busy


def _row(name: str, cost: Estimate, workers: int, shared: int) -> Row:
    busy, host = _times(cost, shared)
    served = schedule(busy, host, workers)
    wrong = problems(served)
    if wrong:
        raise RuntimeError(wrong[0])
    latencies = sorted(f.done - f.arrival for f in served)
    rates = [sum(f.stream == s for f in served) / SECONDS for s in range(STREAMS)]
    return {
        "model": name, "workers": workers, "memory": "shared" if shared > 1 else "free",
        "core ms": busy, "host ms": host, "frames/s of a camera": min(rates),
        "best camera": max(rates), "median ms": statistics.median(latencies),
        "95 % ms": latencies[int(len(latencies) * 0.95)],
        "cores busy %": 100 * len(served) * busy / (CORES * max(f.end for f in served)),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
