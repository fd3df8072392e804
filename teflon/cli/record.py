"""`teflon record` records a model's requests to the kernel; `teflon replay` runs a recording."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon import plugins
from teflon.cli.common import add_device, check_recording, driver_options, input_shapes, write_whole
from teflon.cli.intercept import write_recordings
from teflon.cli.run import (
    add_inputs,
    describe_array,
    input_types,
    read_inputs,
    write_arrays,
)
from teflon.errors import OptionError, RecordingError
from teflon.ir.graph import Op, Value
from teflon.ir.types import Array
from teflon.npz import read_npz
from teflon.pipe import Recorder
from teflon.run.runner import Runner
from teflon.samples import models
from teflon.samples.arrays import named_arrays


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("record", help="run a model once and record all its requests")
    parser.add_argument("model", metavar="MODEL", nargs="?")
    add_device(parser)
    add_inputs(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE.npz")
    parser.add_argument(
        "--from-trace", type=Path, metavar="FILE.trace",
        help="convert a trace of `teflon intercept` instead of running a model",
    )  # fmt: skip
    parser.set_defaults(run=record)
    parser = commands.add_parser("replay", help="run a recording on the simulated chip, or show it")
    parser.add_argument("recording", type=Path, metavar="FILE.npz")
    parser.add_argument("--show", action="store_true", help="print a summary; do not run it")
    parser.add_argument("--text", action="store_true", help="print all requests and command lists")
    parser.add_argument("--input", metavar="FILE.npz", help="inputs instead of the recorded ones")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="outputs as .npz or .npy")
    parser.set_defaults(run=replay)


def record(options: argparse.Namespace) -> int:
    """Run a model once and record it, or convert a trace."""
    check_recording(options.output, "-o")
    if (options.model is None) == (options.from_trace is None):
        raise OptionError("record: needs either a MODEL or --from-trace FILE")
    if options.from_trace is not None:
        write_recordings([options.from_trace], options.output)
        return 0
    given = driver_options(options.option)
    path = models.resolve(options.model)
    given |= {"record": str(options.output)}
    with teflon.load(path, options.device, shapes=input_shapes(options.shape), **given) as model:
        for name, array in model(read_inputs(options, input_types(model.graph))).items():
            print(describe_array(name, array))
        about = _about(path, model)
    if not any(part.device == 0 for part in model.plan.partitions):
        raise OptionError(
            f"{options.model}: no operation runs on {model.plan.devices[0]}, there is nothing to"
            f" record (teflon check {options.model} shows why)"
        )
    _add(options.output, about)
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


def _about(path: Path, model: Runner) -> dict[str, Any]:
    """Return the description of the model for `meta`, with the keys of Mesa's recordings."""
    data = path.read_bytes()
    graph, placements = model.graph, model.plan.placements.values()
    ops = [_operation(op) for op in graph.ops]
    return {
        "model": path.stem,
        "model_sha256": hashlib.sha256(data).hexdigest(),
        "model_bytes": len(data),
        "inputs": [_tensor(v) for v in graph.inputs],
        "outputs": [_tensor(v) for v in graph.outputs],
        "ops": ops,
        "teflon_nodes": [
            {
                "node": place.op.index,
                "op": place.op.tflite_name,
                "supported": place.device == 0,
                "verdict": "; ".join(reason for _, reason in place.reasons) or "supported",
            }
            for place in placements
        ],
        "teflon_partitions": [
            [_operation(op) for op in part.graph.ops]
            for part in model.plan.partitions
            if part.device == 0
        ],
    }


def _operation(op: Op) -> dict[str, Any]:
    return {
        "index": op.index,
        "name": op.tflite_name,
        "inputs": [-1 if v is None else v.index for v in op.operands],
        "outputs": [v.index for v in op.results],
    }


def _tensor(value: Value) -> dict[str, Any]:
    quantization = value.type.quantization
    return {
        "index": value.index,
        "name": value.name,
        "dtype": value.type.dtype.numpy.str,
        "shape": list(value.shape),
        "scales": list(quantization.scales) if quantization else [],
        "zero_points": list(quantization.zero_points) if quantization else [],
    }


def _add(path: Path, about: dict[str, Any]) -> None:
    """Add a description of the model to a recording's `meta`."""
    arrays: dict[str, Any] = named_arrays(str(path))
    meta = json.loads(bytes(arrays["meta"]).decode()) | about
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def show(path: Path, whole: bool) -> int:
    """Print a summary of a recording; with `whole` all requests and command lists."""
    sys.stdout.write(_recorder(path, "show").show(str(path), whole=whole).rstrip() + "\n")
    return 0


def replay(options: argparse.Namespace) -> int:
    """Show a recording, or run it and compare the outputs with the recorded ones."""
    path = str(options.recording)
    if options.show or options.text:
        return show(options.recording, whole=options.text)
    recorder = _recorder(options.recording, "replay")
    inputs = named_arrays(options.input) if options.input else {}
    outputs = recorder.replay(path, inputs)
    wanted = named_arrays(path)
    for name, array in outputs.items():
        print(describe_array(name, array) + _difference(array, wanted.get(name)))
    if options.output:
        write_arrays(options.output, outputs)
    return 0


def _difference(have: Array, recorded: Array | None) -> str:
    """Return whether a buffer has the content that the recorded device wrote, as text."""
    if recorded is None:
        return ""
    differ = int(np.count_nonzero(have != recorded))
    return f", {differ} bytes differ from the recording" if differ else ", as recorded"


def _recorder(path: Path, verb: str) -> Recorder:
    """Return the recorder of a recording's driver. Raises RecordingError, OptionError."""
    try:
        name = str(json.loads(read_npz(path, "meta")["meta"].tobytes())["driver"])
    except OSError as error:
        raise OptionError(f"{path}: cannot be read, {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordingError(
            f"{path}: is not a recording, must be an .npz file with `meta`"
        ) from error
    registry = plugins.discover()
    if name in registry.recorders:
        return registry.recorders[name]
    if name in registry.drivers:
        raise RecordingError(f"{path}: driver {name} cannot {verb} recordings")
    known = ", ".join(registry.drivers)
    raise RecordingError(f"{path}: driver is {name!r:.60}, must be one of {known}")
