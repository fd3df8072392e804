"""Measure a hundred images through a classifier, on the device and in TFLite, in the same run.

    python benchmarks/images.py [--device sim:a311d]

The images are noise with squares of different sizes, the same each time. "set" is the time of all
images, one after the other. It includes the decoding of the weights with the first image, but not
loading. "CPU" is the time on all processors. "same class" counts the images for which the device
and TFLite agree on the most likely class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from common import Row, arguments, at_hand, show, tflite_interpreter, wall_and_cpu_ms
from teflon.ir.types import Array, TensorType

MODELS = ("mobilenet_v1",)
COUNT = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv, MODELS)
    rows = [_row(name, path, options.device) for name, path in at_hand(options.models)]
    show("A hundred images, seconds", rows, options, "images")
    return 0


def noise(kind: TensorType) -> list[Array]:
    """Return images [1, rows, columns, channels] of noise, in squares of 1 to 32 pixels."""
    rng = np.random.default_rng(100)
    info = np.iinfo(kind.dtype.numpy)
    _, rows, columns, channels = kind.shape
    images = []
    for number in range(COUNT):
        size = 1 << number % 6
        shape = (-(-rows // size), -(-columns // size), channels)
        coarse = rng.integers(info.min, info.max, shape, info.dtype, endpoint=True)
        full = coarse.repeat(size, axis=0).repeat(size, axis=1)
        images.append(np.ascontiguousarray(full[None, :rows, :columns]))
    return images


def _seconds(run: Callable[[Array], Array], images: Sequence[Array]) -> tuple[float, float, Array]:
    """Return (wall time, CPU time) in seconds for all images, and their classes."""
    classes: list[int] = []
    wall, processors = wall_and_cpu_ms(
        lambda: classes.extend(int(run(image).argmax()) for image in images), 1
    )
    return wall / 1e3, processors / 1e3, np.array(classes)


def _row(name: str, path: Path, device: str) -> Row:
    with teflon.load(path, device, cache="off") as model:
        images = noise(next(value.type for value in model.graph.inputs))
        ours, processors, classes = _seconds(lambda image: model.run(image)[0], images)
    row: dict[str, Any] = {"model": name, "images": COUNT, "set": ours}
    row |= {"ms each": ours / COUNT * 1e3, "CPU": processors}
    for threads in (1, 2):
        theirs = _tflite(path, threads, images)
        if theirs is None:
            continue
        row[f"TFLite, {threads} thread{'s'[: threads - 1]}"] = theirs[0]
        if threads == 1:
            row |= {"CPU ratio": processors / theirs[1]}
            row |= {"same class": int((theirs[2] == classes).sum())}
    return row


def _tflite(path: Path, threads: int, images: Sequence[Array]) -> tuple[float, float, Array] | None:
    interpreter = tflite_interpreter(path, threads)
    if interpreter is None:
        return None
    (there,), (back, *_) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: Array) -> Array:
        interpreter.set_tensor(there["index"], image)
        interpreter.invoke()
        result: Array = interpreter.get_tensor(back["index"])
        return result

    return _seconds(run, images)


if __name__ == "__main__":
    sys.exit(main())
