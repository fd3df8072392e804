"""Compare the values of option `perchannel`: jobs, predicted time, distance to the reference.

python benchmarks/perchannel.py [--device a311d] [--pictures 50] [--modes exact,balanced] MODEL ...

For models that take a picture; where one ends with SOFTMAX, the numbers before it are compared.
`ms` is the predicted time of the NPU's jobs, without the time to start them. `weights` is the mean
over layers of the ratio of weights to their errors, `output` that of the results to their
difference from the reference (dB), `steps` the root mean square of the difference. `same` counts
the pictures with the same best class.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import OUT, keep
from pictures import crops
from teflon.cli.common import table
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.ir import Array, Graph
from teflon.ir.ops import Softmax
from teflon.run.load import load
from teflon.samples.images import to_input
from teflon_etnaviv.device import EtnavivDevice

CHIPS = ("a311d", "s905d3", "imx8mp")
MODES = "exact,balanced,merged"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--device", default=CHIPS[0], choices=CHIPS)
    parser.add_argument("--modes", default=MODES)
    parser.add_argument("--pictures", type=int, default=50, metavar="N")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    options = parser.parse_args(argv)
    rows = []
    for path in options.models:
        graph = without_softmax(read_graph(path))
        pictures = [to_input(p, graph.inputs[0].type) for p in crops(options.pictures)]
        reference = results(graph, "cpu", pictures)
        for mode in options.modes.split(","):
            have = results(graph, f"sim:{options.device}", pictures, perchannel=mode)
            row = {"model": path.stem, "perchannel": mode}
            rows.append(row | cost(graph, options.device, mode) | distance(have, reference))
    print(table([list(row.values()) for row in rows], list(rows[0])))
    keep("Scales for each channel", rows, options, "perchannel")
    return 0


def without_softmax(graph: Graph) -> Graph:
    """Return what computes the operand of a graph's first SOFTMAX, if it has one."""
    last = next((op for op in graph.ops if isinstance(op, Softmax)), None)
    if last is None:
        return graph
    wanted, kept = {last.input}, []
    for op in reversed(graph.ops):
        if any(value in wanted for value in op.results):
            kept.append(op)
            wanted.update(op.inputs_present)
    return dataclasses.replace(
        graph, ops=tuple(reversed(kept)), outputs=(last.input,), output_names=(last.input.name,)
    )


def results(graph: Graph, device: str, pictures: Sequence[Array], **options: str) -> Array:
    """Return the numbers that a device computes for each picture."""
    with load(graph, device, options={"cache": "off", **options}) as model:
        return np.stack([model.run(p)[0].reshape(-1).astype(np.float64) for p in pictures])


def cost(graph: Graph, chip: str, mode: str) -> dict[str, Any]:
    """Return jobs and predicted time of the NPU, and the ratio of weights to their errors."""
    device = EtnavivDevice(chip, {"perchannel": mode})
    parts = [part for part in plan_model(graph, device).partitions if part.device == 0]
    programs = [device.compile(part.graph) for part in parts]
    layers = [layer.decibels for program in programs for layer in program.grouped]
    noise = np.mean([10 ** (-decibels / 10) for decibels in layers]) if layers else 0.0
    costs = [step for program in programs for step in device.estimate(program)]
    return {
        "jobs": sum(program.statistics["tasks"] for program in programs),
        "ms": round(sum(step.total_ms for step in costs), 2),
        "weights": round(float(-10 * np.log10(noise)), 1) if noise else float("inf"),
    }


def distance(have: Array, reference: Array) -> dict[str, Any]:
    """Return how far results are from the reference."""
    off = have - reference
    signal = (reference - reference.mean(axis=1, keepdims=True)).var()
    return {
        "output": round(float(10 * np.log10(signal / off.var())), 1) if off.any() else float("inf"),
        "steps": round(float(np.sqrt(np.square(off).mean())), 2),
        "same": int((have.argmax(axis=1) == reference.argmax(axis=1)).sum()),
    }


if __name__ == "__main__":
    sys.exit(main())
