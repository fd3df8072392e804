"""`teflon classify` and `teflon detect`, with options and output of Mesa's classification.py."""

from __future__ import annotations

import argparse
import ctypes
import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon.cli.common import (
    add_device,
    check_target,
    driver_options,
    input_shapes,
    mesa_options,
    nonzero,
    number,
    write_whole,
)
from teflon.devices import AUTO
from teflon.errors import DriverUnavailable, ModelError, OptionError
from teflon.frontend.delegate import library as delegate
from teflon.ir.types import Array, DType, TensorType
from teflon.samples import images, models
from teflon.samples.detection import detections, draw, label_of

TIMED_RUNS = 4  # after a run for warming up, as in classification.py
TOP = 5

Invoke = Callable[[Array], list[Array]]


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("classify", help="print the five best classes of a picture")
    _add_common(parser, label_help="the names of the classes, one in each line")
    parser.add_argument(
        "-e",
        "--ext_delegate",
        metavar="LIBRARY",
        help="use an installed TFLite runtime with this delegate (libteflon.so: the one of teflon)",
    )
    parser.add_argument(
        "-o",
        "--ext_delegate_options",
        metavar="'K: V; K: V'",
        default="",
        help="options of the delegate, or without -e of the driver",
    )
    parser.add_argument("--num_threads", type=int, metavar="N",
                        help="threads of the TFLite runtime, with -e only")  # fmt: skip
    parser.set_defaults(run=classify)
    parser = commands.add_parser("detect", help="draw boxes around the objects in a picture")
    _add_common(parser, label_help="the names of the classes, one in each line (default: COCO's)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("detections.png"),
        metavar="FILE",
        help="the picture to write (default: %(default)s)",
    )
    parser.add_argument("--threshold", type=number, default=0.4, metavar="SCORE",
                        help="leave out objects with a lower score (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=detect)


def _add_common(parser: argparse.ArgumentParser, label_help: str) -> None:
    parser.add_argument("-i", "--image", required=True, metavar="FILE")
    parser.add_argument("-m", "--model_file", required=True, metavar="MODEL")
    parser.add_argument("-l", "--label_file", metavar="FILE", help=label_help)
    parser.add_argument("--input_mean", type=number, default=127.5, help="default: %(default)s")
    parser.add_argument("--input_std", type=nonzero, default=127.5, help="default: %(default)s")
    add_device(parser)


def read_labels(path: str | Path | None) -> list[str]:
    """Return the lines of a label file; [] without a file. Raises OptionError."""
    if path is None:
        return []
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: is not text in UTF-8, must be") from error
    except OSError as error:
        raise OptionError(f"{path}: cannot be read, {error.strerror}") from error


def classify(options: argparse.Namespace) -> int:
    """Print the five best classes and the mean time of an inference."""
    labels = read_labels(_labels(options.label_file))
    if options.ext_delegate:
        kind, invoke = _tflite(options)
        return _print_classes(options, kind, invoke, labels)
    given = mesa_options(options.ext_delegate_options)
    device = given.pop("device", options.device)
    path = models.resolve(options.model_file)
    given |= driver_options(options.option)
    with teflon.load(path, device, shapes=input_shapes(options.shape), **given) as model:
        return _print_classes(options, model.graph.inputs[0].type, model.run, labels)


def _labels(text: str | None) -> Path | None:
    return models.resolve(text) if text else None


def _print_classes(
    options: argparse.Namespace, kind: TensorType, invoke: Invoke, labels: Sequence[str]
) -> int:
    picture = images.read_image(options.image)
    array = images.to_input(picture, kind, options.input_mean, options.input_std)
    outputs, seconds = _measure(invoke, array)
    for score, place in top(outputs[0]):
        print(f"{score:08.6f}: {label_of(place, labels)}")
    print(f"time: {seconds * 1e3:.3f}ms")
    return 0


def _measure(invoke: Invoke, array: Array) -> tuple[list[Array], float]:
    """Return the outputs, and the mean seconds of TIMED_RUNS runs."""
    outputs, times = invoke(array), []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        outputs = invoke(array)
        times.append(time.perf_counter() - start)
    return outputs, statistics.fmean(times)


def top(scores: Array, count: int = TOP) -> list[tuple[float, int]]:
    """Return the best (score, class) pairs, best first; equal scores by class number.

    As in classification.py, quantised scores are divided by 255, for any scale; int8 scores get 128
    added before. Raises ModelError if `scores` is not a list of scores.
    """
    shape = np.shape(scores)
    if not shape or not shape[-1] or np.size(scores) != shape[-1]:
        raise ModelError(
            f"classify: the model's first output is {list(shape)}, must be [1, classes]"
        )
    flat = np.asarray(scores).reshape(-1)
    best = np.argsort(-flat.astype(np.float64), kind="stable")[:count]
    offset = 128 if flat.dtype == np.int8 else 0
    divisor = 1 if flat.dtype.kind == "f" else 255
    return [((float(flat[i]) + offset) / divisor, int(i)) for i in best]


def _tflite(options: argparse.Namespace) -> tuple[TensorType, Invoke]:
    """Return the input's type, and a function that runs a TFLite runtime with the delegate."""
    given = mesa_options(options.ext_delegate_options)
    print(f"Loading external delegate from {options.ext_delegate} with args: {given}", flush=True)
    path = models.resolve(options.model_file)
    runtime, library = delegate.runtime_module(), delegate.find(options.ext_delegate)
    if library == delegate.find(delegate.LIBRARY) and options.device != AUTO:
        given = {"device": options.device, **given}
    try:
        ctypes.CDLL(library)  # fails with a clear error; the runtime's own class prints a traceback
        loaded = runtime.load_delegate(library, given)
        interpreter = runtime.Interpreter(
            str(path), experimental_delegates=[loaded], num_threads=options.num_threads
        )
        interpreter.allocate_tensors()
    except (ValueError, OSError, RuntimeError) as error:
        why = str(error).removeprefix(f"Failed to load delegate from {library}").strip()
        why = why.removeprefix("teflon: ").removeprefix(f"{library}: ")
        raise DriverUnavailable(f"{options.ext_delegate}: cannot be used, {why}") from error
    entry = interpreter.get_input_details()[0]
    kind = TensorType(DType.of(entry["dtype"]), tuple(map(int, entry["shape"])))

    def invoke(array: Array) -> list[Array]:
        interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]

    return kind, invoke


def detect(options: argparse.Namespace) -> int:
    """Print the objects in a picture, and write the picture with boxes."""
    check_target(options.output)
    labels = read_labels(_labels(options.label_file or "coco_labels"))
    picture = images.read_image(options.image)
    path = models.resolve(options.model_file)
    given = driver_options(options.option)
    with teflon.load(path, options.device, shapes=input_shapes(options.shape), **given) as model:
        kind = model.graph.inputs[0].type
        array = images.to_input(picture, kind, options.input_mean, options.input_std)
        start = time.perf_counter()
        outputs = model.run(array)
        seconds = time.perf_counter() - start
    found = detections(outputs, options.threshold)
    for box in found:
        left, right = box.left * picture.width, box.right * picture.width
        above, below = box.top * picture.height, box.bottom * picture.height
        print(
            f"{box.score:08.6f}: {label_of(box.label, labels)}"
            f" ({left:.0f}, {above:.0f}) to ({right:.0f}, {below:.0f})"
        )
    print(f"time: {seconds * 1e3:.3f}ms")
    buffer = io.BytesIO()
    draw(picture, found, labels).save(buffer, "PNG")
    write_whole(options.output, buffer.getvalue())
    print(f"{options.output}: {len(found)} boxes")
    return 0
