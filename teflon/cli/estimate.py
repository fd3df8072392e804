"""`teflon estimate`: predicts the time of each layer of a model on a chip."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from teflon.cli.common import (
    add_device,
    brief,
    check_target,
    driver_options,
    number,
    table,
    write_whole,
)
from teflon.cli.planning import PlannedModel, plan_of
from teflon.errors import OptionError, SimulatorFault
from teflon.run.cores import ALL, core_count
from teflon.run.multicore.device import MulticoreDevice
from teflon.timing import chart
from teflon.timing.estimate import Estimate, Step, estimate
from teflon.timing.streams import Cameras, serve

HEADER = (
    "", "part", "engine", "name", "MACs", "cycles", "read kB", "written kB", "SRAM kB", "ms",
    "use %", "limit",
)  # fmt: skip

CHART_MS = 300.0
"""The part of a schedule that a picture shows, in milliseconds."""


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("estimate", help="predict the time of every layer on a chip")
    parser.add_argument("model", metavar="MODEL", help="a .tflite file, or a name of models list")
    add_device(parser)
    parser.add_argument(
        "--cores", default="1", metavar="N",
        help=f"divide an inference between N cores, or {ALL}, if that is faster (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=int, metavar="N",
        help="serve N cameras instead: print frames per second, delays, use of the cores",
    )  # fmt: skip
    parser.add_argument(
        "--fps", type=number, default=30.0, metavar="F",
        help="frames per second of each camera (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="open the device N times to serve cameras (default: once for each core)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--chart", type=Path, metavar="FILE",
        help="draw the times of the layers, or the schedule of the cameras: .svg or .png",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the prediction."""
    if options.chart:
        check_target(options.chart)
        if options.chart.suffix not in chart.FORMATS:
            raise OptionError(f"{options.chart}: its name must end in {' or '.join(chart.FORMATS)}")
    if options.streams is not None:
        return run_streams(options)
    one, found = estimates(plan_of(options), options.cores)
    if options.chart:
        write_whole(options.chart, chart.FORMATS[options.chart.suffix](bars(found)))
    if options.json:
        print(json.dumps({**found.as_dict(), "one_core_ms": one.total_ms}, indent=2))
        return 0
    print(table([_row(n, step) for n, step in enumerate(found.steps)], HEADER))
    print()
    print("\n".join([*summary(found), *gain_summary(one, found)]))
    return 0


def run_streams(options: argparse.Namespace) -> int:
    """Serve cameras in modelled time and print the result."""
    if options.cores != "1":
        raise OptionError("--cores: divides one inference, must be left out with --streams")
    artefact = plan_of(options).compile()
    chip = artefact.devices[0]
    workers = chip.cores if options.workers is None else options.workers
    cameras = Cameras(options.streams, options.fps, workers=workers)
    service = serve(artefact, cameras, driver_options(options.option))
    if wrong := service.problems():
        raise SimulatorFault(f"schedule: {wrong[0]}")
    if options.chart:
        picture = service.gantt(CHART_MS)
        write_whole(options.chart, chart.FORMATS[options.chart.suffix](picture))
    if options.json:
        print(json.dumps(service.as_dict(), indent=2))
        return 0
    rows = [(f"camera {n}", rate) for n, rate in enumerate(service.rates())]
    print(table(rows, ("", "frames/s")))
    print()
    median, most = service.latency()
    print(f"{chip.chip}: {workers} workers with {cameras.threads} threads each")
    print(
        f"from a frame to its result: {median:.1f} ms (median), {most:.1f} ms (95 %);"
        f" cores busy {service.utilisation():.1%}"
    )
    print("modelled time, not measured (docs/simulator.md)")
    return 0


def estimates(model: PlannedModel, cores: str) -> tuple[Estimate, Estimate]:
    """Return the estimate for one core, and that of an inference that is divided between `cores`.

    Raises OptionError if the chip has fewer cores, and for several cores with a compiled model,
    whose programs are for one core.
    """
    one = estimate(model.compile())
    device, *others = model.plan.chain
    if (count := core_count(cores, device)) == 1:
        return one, one
    if model.artefact is not None:
        raise OptionError(
            "--cores: a compiled model has programs for one core only, must be left out"
            " (or name the model itself)"
        )
    chain = (MulticoreDevice(device, count), *others)
    several = replace(model, plan=replace(model.plan, chain=chain))
    return one, estimate(several.compile())


def gain_summary(one: Estimate, found: Estimate) -> list[str]:
    """Return lines about the time of several cores and about the stages; none for one core."""
    if found is one:
        return []
    gain = one.total_ms / found.total_ms if found.total_ms else 1.0
    return [
        f"one core {one.total_ms:.2f} ms, divided {found.total_ms:.2f} ms:"
        f" {gain:.2f} times as fast (docs/cores.md)",
        *found.remarks,
    ]


def bars(found: Estimate) -> chart.Bars:
    """Return the chart of an estimate, with one bar for each step."""
    rows = tuple((step.cost.name, dict(step.cost.milliseconds)) for step in found.steps)
    title = f"{found.model} on {found.device}: {found.total_ms:.2f} ms predicted"
    return chart.Bars(title, "ms", rows)


def summary(found: Estimate) -> list[str]:
    """Return the totals as lines."""
    totals = found.totals()
    whole = found.total_ms
    shares = ", ".join(
        f"{name} {ms:.2f} ({ms / whole:.0%})"
        for name, ms in found.milliseconds().items()
        if whole and ms
    )
    return [
        f"{found.device}: {whole:.2f} ms predicted: {shares}",
        f"chip: {totals['macs']:,} MACs in {totals['array_cycles']:,} cycles of the array,"
        f" {found.utilisation():.1%} of its peak",
        f"DRAM: {totals['dram_read']:,} bytes read ({totals['coefficient_bytes']:,} of them"
        f" coefficients), {totals['dram_written']:,} written; on-chip memory saved"
        f" {totals['sram_hits']:,}",
        "a prediction, not a measurement; steps of host and cpu are rough (docs/estimate.md)",
    ]


def _row(place: int, step: Step) -> tuple[object, ...]:
    cost = step.cost
    sizes = (cost.dram_read, cost.dram_written, cost.sram_hits)
    return (
        place,
        step.partition,
        cost.engine,
        brief(cost.name),
        cost.macs,
        cost.array_cycles,
        *(round(size / 1e3) for size in sizes),
        round(cost.total_ms, 3) if cost.total_ms < 0.01 else cost.total_ms,
        100 * cost.utilisation,
        cost.limit,
    )
