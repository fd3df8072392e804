"""The CPU's remainder: time of what an NPU leaves to the processor, by the reference and by TFLite.

Both are measured in turn in one run, so that the ratio does not depend on how busy the machine is.
The NPU's own partitions are computed once by the reference and are not in the times.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import choose
from common import Row, arguments, description, inputs_of, show
from teflon.compile.cache import NONE
from teflon.compile.chain import Host, open_fallback
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.inspect.compare import every_tensor
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array

NAMES = (
    "ssdlite_mobiledet_coco_qat_postprocess",
    "deeplabv3_mnv2_dm05_pascal_quant",
    "movenet_single_pose_lightning_ptq",
)
"""Models with much work behind the NPU: box decoding, ARG_MAX of a picture, GATHER_ND."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv, NAMES)
    found = _at_hand(options.models)
    rows = [_row(name, path, options.device, options.runs) for name, path in found]
    show("What the NPU leaves, milliseconds (medians of runs in turn)", rows, options, "remainder")
    return 0


def _at_hand(names: Sequence[str]) -> list[tuple[str, Path]]:
    paths = {path.stem: path for path in choose.paths_of(())}
    return [(name, paths[name]) for name in names if name in paths]


def _row(name: str, path: Path, device: str, runs: int) -> Row:
    graph = read_graph(path)
    known = every_tensor(graph, inputs_of(graph))
    known |= dict(zip(graph.inputs, inputs_of(graph), strict=True))
    with ExitStack() as stack:
        reference, count = _remainder(stack, graph, device, Host(), known)
        runtime, _ = _remainder(stack, graph, device, Host("tflite", "1"), known)
        threads, _ = _remainder(stack, graph, device, Host("tflite", "2"), known)
        times = [_turn((reference, runtime, threads)) for _ in range(runs + 1)][1:]
    one, fast, two = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "model": name, "operations": count, "reference": one, "tflite": fast,
        "ratio": one / fast, "tflite, 2 threads": two, "ratio, 2 threads": one / two,
    }  # fmt: skip


def _remainder(
    stack: ExitStack, graph: Graph, device: str, host: Host, known: dict[Value, Array]
) -> tuple[Callable[[], None], int]:
    """Return a function that runs what a device leaves, and the number of its operations."""
    artefact = compile_graph(graph, description(device), NONE, host=host)
    tensors = {v.index: array for v, array in known.items() if v.index >= 0}
    calls, count = [], 0
    for part, program in zip(artefact.plan.partitions, artefact.programs, strict=True):
        if part.device == 0:
            continue
        count += len(part.graph.ops)
        context = stack.enter_context(open_fallback(artefact.devices[part.device], host))
        arrays = [np.asarray(tensors[v.index], order="C") for v in part.graph.inputs]
        calls.append((context, context.load(program), arrays))

    def run() -> None:
        for context, executable, arrays in calls:
            context.invoke(executable, arrays)

    return run, count


def _turn(runs: Sequence[Callable[[], None]]) -> list[float]:
    found = []
    for run in runs:
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return found


if __name__ == "__main__":
    sys.exit(main())
