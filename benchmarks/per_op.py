"""Compare each operation that a device runs of each model with the reference, on its own input.

python benchmarks/per_op.py [--device sim:rk3588] [--alone] [--kinds NAME ...] [MODEL ...]

Without models: the 8-bit ones that `coverage.py` chooses. The partitions run whole, their inner
tensors are read back and the reference computes each from the device's own inputs (as `teflon
compare` does); operations that a device may have fused count as one. The results of operators that
the IR does not have are inputs here. With `--alone` each operation is a partition of its own and
gets the reference's inputs; `--kinds` are then the only ones, and `--most` of a kind are taken.
`differ %` is the largest share of a layer that differs, `outputs` the
largest difference of the whole model's outputs, in steps where they have some. Returns 1 if a layer
differs by more than `--within` steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from choose import kind_of, known, paths_of
from common import OUT, inputs_of, keep
from pictures import crops, takes_pictures
from teflon.cli.common import table
from teflon.compile.partition import Plan
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import TeflonError
from teflon.inspect.compare import Layer, compare_plan
from teflon.ir import Array, Graph, Op, Value, interpreter
from teflon.pipe import Context, Device
from teflon.samples.images import to_input


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print."""
    options = _arguments(argv)
    rows, worst = [], 0
    for path in paths_of(options.models):
        if kind_of(path).reason and not options.models:
            continue
        row, layers = _compared(path, options)
        rows.append(row)
        for layer in layers:
            worst = max(worst, layer.steps)
            if layer.steps > options.within:
                print(f"{path.stem}: {' + '.join(layer.ops)}: {layer.steps} steps,"
                      f" {layer.share:.2%} differ")  # fmt: skip
    if not rows:
        print("no 8-bit models (name files, or their folder in TEFLON_MODELS)")
        return 1
    print(table([list(row.values()) for row in rows], list(rows[0])))
    keep("Each operation beside the reference, on its own input", rows, options, "per_op")
    return 0 if worst <= options.within and not any(row["error"] for row in rows) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--device", default="sim:rk3588", metavar="SPEC")
    parser.add_argument("--alone", action="store_true", help="each operation by itself")
    parser.add_argument("--kinds", nargs="+", default=(), metavar="NAME", help="as CONV_2D")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="operations of a kind")
    parser.add_argument("--within", type=int, default=1, metavar="STEPS")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    return parser.parse_args(argv)


def _compared(path: Path, options: argparse.Namespace) -> tuple[dict[str, Any], list[Layer]]:
    """Return the figures of a model and its layers."""
    start, layers, outputs, error = time.perf_counter(), list[Layer](), 0.0, ""
    chip, context = open_device(options.device, {})
    try:
        if context is None:
            raise SystemExit(f"device {options.device}: is a description, must run (sim:...)")
        graph = known(read_graph(path))
        plan = plan_model(graph, chip)
        if options.alone:
            layers = list(_alone(plan, chip, context, options))
        else:
            layers = list(compare_plan(plan, context, given(graph)).layers)
            outputs = _distance(graph, plan, context)
    except TeflonError as problem:
        error = f"{type(problem).__name__}: {problem}"[:90]
    finally:
        if context is not None:
            context.close()
    return {
        "model": path.stem,
        "layers": len(layers),
        "equal": sum(not layer.steps for layer in layers),
        "of 1 step": sum(layer.steps == 1 for layer in layers),
        "more": sum(layer.steps > 1 for layer in layers),
        "worst": max((layer.steps for layer in layers), default=0),
        "differ %": round(100 * max((layer.share for layer in layers), default=0.0), 2),
        "outputs": outputs,
        "s": round(time.perf_counter() - start, 1),
        "error": error,
    }, layers


def given(graph: Graph) -> list[Array]:
    """Return a graph's inputs: a picture where one fits, else random numbers."""
    picture = next(crops(1), None)
    return [
        to_input(picture, value.type)
        if picture is not None and takes_pictures(value.type)
        else array
        for value, array in zip(graph.inputs, inputs_of(graph), strict=True)
    ]


def _distance(graph: Graph, plan: Plan, context: Context) -> float:
    """Return the largest difference of a model's outputs from the reference's, in steps."""
    mine = dict(zip(plan.graph.inputs, given(graph), strict=True))
    wanted = interpreter.run(graph, [mine[v] for v in plan.graph.inputs])
    for part in plan.partitions:
        inputs = [mine[v] for v in part.graph.inputs]
        if part.device == 0:
            with closing(context.load(context.device.compile(part.graph))) as executable:
                results = context.invoke(executable, inputs)
        else:
            results = interpreter.run(part.graph, inputs)
        mine.update(zip(part.graph.outputs, results, strict=True))
    far = [
        np.abs(mine[value].astype(np.float64) - want).max(initial=0)
        for value, want in zip(plan.graph.outputs, wanted, strict=True)
    ]
    return round(float(max(far, default=0.0)), 3)


def _alone(
    plan: Plan, chip: Device, context: Context, options: argparse.Namespace
) -> Iterator[Layer]:
    """Yield the comparison of each operation of the device with the reference's inputs."""
    tensors = _reference(plan.graph)
    seen: Counter[str] = Counter()
    for op in (op for part in plan.partitions if part.device == 0 for op in part.graph.ops):
        if options.kinds and op.kind_name not in options.kinds:
            continue
        seen[op.kind_name] += 1
        if seen[op.kind_name] > options.most:
            continue
        alone = plan.graph.subgraph([op], op.where)
        alone = dataclasses.replace(alone, outputs=op.results, output_names=())
        if chip.veto(alone):
            continue
        small = plan_model(alone, chip)
        inputs = [tensors[v] for v in alone.inputs]
        yield from compare_plan(small, context, inputs).layers


def _reference(graph: Graph) -> dict[Value, Array]:
    """Return every tensor of a graph in the reference arithmetic."""
    tensors = dict(zip(graph.inputs, given(graph), strict=True))

    def note(op: Op, _: Sequence[Array | None], results: Sequence[Array]) -> None:
        tensors.update(zip(op.results, results, strict=True))

    interpreter.run(graph, [tensors[v] for v in graph.inputs], note)
    return tensors


if __name__ == "__main__":
    sys.exit(main())
