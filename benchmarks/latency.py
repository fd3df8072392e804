"""Predict the time of one inference that is divided over the cores of a chip, and its costs.

    python benchmarks/latency.py [--models mobiledet] [--out out/bench]

All figures come from compiled programs and the model of time (docs/cores.md). They are the same on
every machine. `one rate` assumes that all cores together read memory no faster than one core does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common import Row, arguments, at_hand, description, show
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.ir.graph import Graph
from teflon.pipe import HOST, Device
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.program import MulticoreProgram
from teflon.timing.estimate import Estimate, estimate


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    rows: list[Row] = []
    for name, path in at_hand(options.models):
        graph = read_graph(path)
        rows += [row(name, graph, device, cores) for cores in range(2, device.cores + 1)]
    show("One inference over several cores, predicted", rows, options, "latency")
    return 0


def row(name: str, graph: Graph, device: Device, cores: int) -> Row:
    """Return the row of a model on `cores` cores."""
    one, _ = timed(graph, device)
    divided, programs = timed(graph, MulticoreDevice(device, cores))
    stages = [stage for program in programs for stage in program.stages]
    wanted = sum(stage.macs for stage in stages)
    repeated = sum(program.statistics["repeated_macs"] for program in programs)
    joined = sum(program.statistics["joined_bytes"] for program in programs)
    shared = divided.total_ms + sum(p.prediction.sharing - p.prediction.chosen for p in programs)
    return {
        "model": name,
        "cores": cores,
        "one core ms": round(one.total_ms, 2),
        "divided ms": round(divided.total_ms, 2),
        "times as fast": round(one.total_ms / divided.total_ms, 2),
        "one rate ms": round(shared, 2),
        "stages": len(stages),
        "of them divided": sum(len(stage.shares) > 1 for stage in stages),
        "MACs repeated %": round(100 * repeated / wanted, 1) if wanted else 0.0,
        "host ms before": round(host_ms(one), 2),
        "host ms": round(host_ms(divided), 2),
        "host kB more": round((host_bytes(divided) + joined - host_bytes(one)) / 1e3),
    }


def timed(graph: Graph, device: Device) -> tuple[Estimate, list[MulticoreProgram]]:
    """Return the estimate of a model, and its programs that have stages."""
    made = compile_graph(graph, device, NONE)
    return estimate(made), [p for p in made.programs if isinstance(p, MulticoreProgram)]


def host_ms(found: Estimate) -> float:
    """Return the milliseconds of the host: conversions, and operations on the CPU."""
    return sum(s.cost.total_ms for s in found.steps if s not in found.on_chip())


def host_bytes(found: Estimate) -> int:
    """Return the bytes that conversions between layouts write."""
    return sum(s.cost.dram_written for s in found.steps if s.cost.engine == HOST)


if __name__ == "__main__":
    sys.exit(main())
