"""Helpers of all benchmarks: options, models, times, tables on stdout, JSON files."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from teflon.cli.common import table
from teflon.cli.run import random_inputs
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.devices import open_device
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon.pipe import Device, Program
from teflon.samples import models

NAMES = ("digits_int8", "mobilenet_v1", "mobiledet", "yolox")
OUT = Path("out") / "bench"

Row = Mapping[str, Any]


def arguments(
    description: str | None, argv: Sequence[str] | None = None, names: Sequence[str] = NAMES
) -> argparse.Namespace:
    """Return the options --device, --runs, --models and --out."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--device", default="sim:rk3588", metavar="SPEC")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="best of N")
    parser.add_argument("--models", nargs="+", default=names, metavar="NAME")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    return parser.parse_args(argv)


def at_hand(names: Sequence[str]) -> list[tuple[str, Path]]:
    """Return (name, path) of the models on this machine; print which ones are missing."""
    found = [(name, models.find(name)) for name in names]
    for name, path in found:
        if path is None:
            print(f"{name}: not on this machine, left out (teflon models fetch {name})")
    return [(name, path) for name, path in found if path is not None]


def inputs_of(graph: Graph) -> list[Array]:
    """Return random inputs in the graph's order, the same ones each time."""
    kinds = {str(i): value.type for i, value in enumerate(graph.inputs)}
    return list(random_inputs(kinds).values())


def best_ms(run: Callable[[], object], runs: int) -> tuple[float, float]:
    """Call a function some times and return (shortest, median) time in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times), statistics.median(times)


def wall_and_cpu_ms(run: Callable[[], object], runs: int) -> tuple[float, float]:
    """Call a function some times and return the shortest (wall time, CPU time) in milliseconds.

    CPU time is the time of this process on all processors.
    """
    times = []
    for _ in range(runs):
        cpu, start = time.process_time(), time.perf_counter()
        run()
        times.append(((time.perf_counter() - start) * 1e3, (time.process_time() - cpu) * 1e3))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def tflite_interpreter(path: Path, threads: int) -> Any:
    """Return a TFLite interpreter of a model, ready for inputs; None if there is no TFLite."""
    try:
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        return None
    interpreter = litert.Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def tflite_ms(
    path: Path, inputs: Sequence[Array], runs: int, threads: int
) -> tuple[float, float] | None:
    """Return the shortest (wall time, CPU time) of TFLite's own CPU kernels in milliseconds.

    None if there is no TFLite.
    """
    interpreter = tflite_interpreter(path, threads)
    if interpreter is None:
        return None
    for entry, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(entry["index"], np.ascontiguousarray(array))
    interpreter.invoke()
    return wall_and_cpu_ms(interpreter.invoke, runs)


def show(title: str, rows: Sequence[Row], options: argparse.Namespace, name: str) -> None:
    """Print the rows as a table, and write them as JSON."""
    print(f"\n{title}")
    if not rows:
        print("  nothing to measure")
        return
    header = list(rows[0])
    print(table([[row[key] for key in header] for row in rows], header))
    keep(title, rows, options, name)


def keep(title: str, rows: Sequence[Row], options: argparse.Namespace, name: str) -> None:
    """Write the rows as JSON, with facts about the machine; print the path of the file."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}-{options.device.removeprefix('sim:')}.json"
    machine = {"python": platform.python_version(), "machine": platform.machine(),
               "cores": os.cpu_count(), "device": options.device}  # fmt: skip
    path.write_text(json.dumps({"title": title, **machine, "rows": list(rows)}, indent=2) + "\n")
    print(f"({path})")


def description(spec: str, **options: str) -> Device:
    """Return the description of a device. The device is closed again."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device


def compiled(graph: Graph, device: Device) -> list[Program]:
    """Return the programs that a device runs of a model, in order."""
    return [program for _, program in compile_graph(graph, device, NONE).on_device()]
