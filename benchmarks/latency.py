"""One inference split over the cores of a chip: predicted milliseconds, and what it costs.

    python benchmarks/latency.py [--models mobiledet] [--out out/bench]

All from the compiled programs and the models of time (docs/cores.md): the same on every machine.
`one rate` is the case that all cores together reach memory no faster than one does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common import Row, arguments, at_hand, description, show
from teflon.compile.cache import NONE
from teflon.compile.loading import load_graph
from teflon.devices import CPU
from teflon.ir.graph import Graph
from teflon.pipe import HOST, Device
from teflon.run.model import compile_plan, plan_model
from teflon.run.multicore.device import SplitDevice
from teflon.run.multicore.program import SplitProgram
from teflon.timing.estimate import Estimate, estimate


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    rows: list[Row] = []
    for name, path in at_hand(options.models):
        graph = load_graph(path)
        rows += [row(name, graph, device, cores) for cores in range(2, device.cores + 1)]
    show("One inference over several cores, predicted", rows, options, "latency")
    return 0


def row(name: str, graph: Graph, device: Device, cores: int) -> Row:
    """Return the line of a model on so many cores."""
    one, _ = timed(graph, device)
    split, programs = timed(graph, SplitDevice(device, cores))
    stages = [stage for program in programs for stage in program.stages]
    wanted = sum(stage.macs for stage in stages)
    repeated = sum(program.statistics["repeated_macs"] for program in programs)
    joined = sum(program.statistics["joined_bytes"] for program in programs)
    shared = split.total_ms + sum(p.predicted.sharing - p.predicted.chosen for p in programs)
    return {
        "model": name,
        "cores": cores,
        "one core ms": round(one.total_ms, 2),
        "split ms": round(split.total_ms, 2),
        "times as fast": round(one.total_ms / split.total_ms, 2),
        "one rate ms": round(shared, 2),
        "stages": len(stages),
        "of them split": sum(len(stage.shares) > 1 for stage in stages),
        "MACs repeated %": round(100 * repeated / wanted, 1) if wanted else 0.0,
        "host ms before": round(host_ms(one), 2),
        "host ms": round(host_ms(split), 2),
        "host kB more": round((host_bytes(split) + joined - host_bytes(one)) / 1e3),
    }


def timed(graph: Graph, device: Device) -> tuple[Estimate, list[SplitProgram]]:
    """Return a model's estimate, and the programs in stages."""
    devices = (device, description(CPU))
    plan, programs = compile_plan(plan_model(graph, device), devices, NONE)
    return estimate(plan, devices, programs), [p for p in programs if isinstance(p, SplitProgram)]


def host_ms(found: Estimate) -> float:
    """Return the milliseconds in which the host works, for the chip or instead of it."""
    return sum(s.cost.total_ms for s in found.steps if s not in found.on_chip())


def host_bytes(found: Estimate) -> int:
    """Return the bytes that conversions between layouts write."""
    return sum(s.cost.dram_written for s in found.steps if s.cost.engine == HOST)


if __name__ == "__main__":
    sys.exit(main())
