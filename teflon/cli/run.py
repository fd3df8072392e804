"""`teflon run` runs a model on arrays or pictures from files; `teflon bench` measures its time."""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon.cli.common import (
    add_device,
    check_target,
    driver_options,
    input_shapes,
    nonzero,
    number,
    progress,
    table,
    write_whole,
)
from teflon.errors import OptionError
from teflon.ir.graph import Graph
from teflon.ir.types import Array, DType, TensorType
from teflon.run.cores import ALL
from teflon.run.inputs import tensor_infos
from teflon.run.load import MODES, THROUGHPUT
from teflon.run.runner import Runner
from teflon.samples import models
from teflon.samples.arrays import named_arrays, one_array

RANDOM_SEED = 0

_MOST_TEXTS = 8
"""Texts of an output that are printed."""


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("run", help="run a model once on arrays or pictures from files")
    parser.add_argument("model", metavar="MODEL")
    add_device(parser)
    add_cores(parser)
    add_inputs(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="outputs as .npz, or one as .npy"
    )
    parser.add_argument("--report", action="store_true", help="also show where operations ran")
    parser.set_defaults(run=run)
    parser = commands.add_parser("bench", help="measure the time of compilation and inference")
    parser.add_argument("model", metavar="MODEL")
    add_device(parser)
    add_cores(parser)
    add_inputs(parser)
    parser.add_argument("--runs", type=positive, default=10, metavar="N", help="default: 10")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=bench)


def add_cores(parser: argparse.ArgumentParser) -> None:
    """Add --cores and --mode."""
    parser.add_argument(
        "--cores", default="1", metavar="N", help=f"use N cores of the chip, or {ALL} (default: 1)"
    )
    parser.add_argument(
        "--mode", choices=tuple(MODES), default=THROUGHPUT,
        help="how several cores share the work (default: %(default)s)",
    )  # fmt: skip


def positive(text: str) -> int:
    """Return a whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"is {number}, must be at least 1")
    return number


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add --input, and the options for the conversion of pictures."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=".npy, .npz or a picture; without files, inputs are random but always the same",
    )
    parser.add_argument(
        "--input_mean", type=number, default=127.5, metavar="MEAN",
        help="float inputs are (pixel - MEAN) / STD (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--input_std", type=nonzero, default=127.5, metavar="STD", help="default: %(default)s"
    )


def open_model(options: argparse.Namespace) -> Runner:
    """Load the model of `options` into its device."""
    path = models.resolve(options.model)
    given = driver_options(options.option)
    return teflon.load(
        path,
        options.device,
        cores=options.cores,
        mode=options.mode,
        shapes=input_shapes(options.shape),
        **given,
    )


def run(options: argparse.Namespace) -> int:
    """Run a model once, print its outputs, and write them to --output."""
    _check_output(options.output)
    with open_model(options) as model:
        inputs = read_inputs(options, input_types(model.graph))
        outputs = model(inputs)
        for name, array in outputs.items():
            print(describe_array(name, array))
        if options.output:
            write_arrays(options.output, outputs)
        if options.report:
            print(model.report())
    return 0


def describe_array(name: str, array: Array) -> str:
    """Return name, type, shape and range of an output as text."""
    if array.dtype.kind == "O":
        shown = ", ".join(repr(text) for text in array.reshape(-1)[:_MOST_TEXTS].tolist())
        return f"{name}: texts{list(array.shape)}, {shown}"
    extent = f", {array.min():.6g} to {array.max():.6g}" if array.size else ""
    return f"{name}: {array.dtype}{list(array.shape)}{extent}"


def input_types(graph: Graph) -> dict[str, TensorType]:
    """Return the type of each input, by the name that users see."""
    names = (i.name for i in tensor_infos(graph.given, graph.given_names))
    return dict(zip(names, (v.type for v in graph.given), strict=True))


def read_inputs(options: argparse.Namespace, types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return an array for each input: from the files of --input, or random without such files.

    Raises OptionError for a file that cannot be read, an unknown name, or a missing input.
    """
    if not options.input:
        return random_inputs(types)
    found: dict[str, Array] = {}
    for text in options.input:
        found |= _from_file(text, types, options)
    if missing := [name for name in types if name not in found]:
        others = ", ".join(name for name in found if name not in types)
        raise OptionError(
            f"input {missing[0]!r}: is in no file, must be given (--input {missing[0]}=FILE"
            + (f"; the files contain {others})" if others else ")")
        )
    return found


def random_inputs(types: Mapping[str, TensorType]) -> dict[str, Array]:
    """Return random arrays over the whole range of the inputs' types, always the same ones."""
    random = np.random.default_rng(RANDOM_SEED)
    return {name: _random(random, kind) for name, kind in types.items()}


def _random(random: np.random.Generator, kind: TensorType) -> Array:
    if kind.dtype is DType.OTHER:
        return np.full(kind.shape, "text", object)
    if kind.dtype.numpy.kind == "b":
        return random.integers(0, 2, kind.shape).astype(bool)
    if kind.dtype.numpy.kind in "iu":
        low, high = kind.dtype.range
        return random.integers(low, high, kind.shape, kind.dtype.numpy, endpoint=True)
    return random.uniform(-1, 1, kind.shape).astype(kind.dtype.numpy)


def _from_file(
    text: str, types: Mapping[str, TensorType], options: argparse.Namespace
) -> dict[str, Array]:
    """Return the arrays of `NAME=FILE` or `FILE`; without NAME all arrays of an .npz file."""
    name, equals, path = text.partition("=")
    if not equals:
        name, path = "", text
    if not path:
        raise OptionError(f"--input {text!r}: names no file, must be [NAME=]FILE")
    suffix = Path(path).suffix.lower()
    if suffix == ".npz" and not name:
        return named_arrays(path)
    if not name:
        if len(types) != 1:
            raise OptionError(
                f"--input {path}: the model has {len(types)} inputs, must be NAME={path}"
                f" with one of {', '.join(types)}"
            )
        name = next(iter(types))
    if name not in types:
        raise OptionError(f"--input {name}: must be one of {', '.join(types)}")
    if suffix == ".npz":
        return _array_of(path, name)
    if suffix == ".npy":
        return {name: one_array(path)}
    from teflon.samples import images  # pictures take a tenth of a second to import

    image = images.read_image(path)
    return {name: images.to_input(image, types[name], options.input_mean, options.input_std, name)}


def _array_of(path: str, name: str) -> dict[str, Array]:
    arrays = named_arrays(path)
    if name not in arrays:
        raise OptionError(f"{path}: has no array {name!r}, it has {', '.join(arrays) or 'none'}")
    return {name: arrays[name]}


def _check_output(path: Path | None) -> None:
    """Raise OptionError for an output file that cannot be written."""
    if path and path.suffix.lower() not in (".npy", ".npz"):
        raise OptionError(f"-o {path}: must end in .npz or .npy")
    if path:
        check_target(path)


def write_arrays(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write outputs as .npz, or a single one as .npy. Raises OptionError."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: _storable(array) for name, array in outputs.items()}
    if path.suffix.lower() == ".npz":
        np.savez(buffer, **arrays)
    elif len(outputs) == 1:
        np.save(buffer, next(iter(arrays.values())))
    else:
        raise OptionError(f"-o {path}: the model has {len(outputs)} outputs, must end in .npz")
    write_whole(path, buffer.getvalue())


def _storable(array: Array) -> Array:
    """Return texts as an array of bytes of one length, which needs no pickle."""
    return array.astype(np.bytes_) if array.dtype.kind == "O" else array


def bench(options: argparse.Namespace) -> int:
    """Measure loading and several inferences; print milliseconds."""
    start = time.perf_counter()
    with open_model(options) as model:
        load_time = time.perf_counter() - start
        inputs = read_inputs(options, input_types(model.graph))
        first = _measure(model, inputs)
        runs = progress(range(options.runs), "bench", unit="run")
        times = [_measure(model, inputs) for _ in runs]
        result = {
            "model": model.graph.name,
            "device": model.plan.devices[0],
            "load_ms": load_time * 1e3,
            "first_ms": first * 1e3,
            **_spread(times),
            "runs": len(times),
        }
        if options.cores != "1":
            result |= {"cores": options.cores, "per_second": _rate(model, inputs, options.runs)}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(table(list(result.items())))
    return 0


def _measure(model: Runner, inputs: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    model(inputs)
    return time.perf_counter() - start


def _rate(model: Runner, inputs: Mapping[str, Array], runs: int) -> float:
    """Return the inferences per second, with as many at the same time as the model allows."""
    start = time.perf_counter()
    for _ in model.map([inputs] * runs):
        pass
    return runs / (time.perf_counter() - start)


def _spread(times: Sequence[float]) -> dict[str, float]:
    return {
        "median_ms": statistics.median(times) * 1e3,
        "best_ms": min(times) * 1e3,
        "worst_ms": max(times) * 1e3,
    }
