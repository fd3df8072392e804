"""Opens float models: finds the library for a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from teflon.errors import ModelError
from teflon.pipe import mistaken_for
from teflon.quantize.changes import Probe
from teflon.quantize.settings import Settings
from teflon.quantize.tensors import Input, Sample

_TFLITE = b"TFL3"
SUFFIXES = (".tflite", ".onnx")


class FloatModel(Protocol):
    """A model that a library can quantise."""

    name: str

    @property
    def inputs(self) -> tuple[Input, ...]: ...

    def with_shapes(self, shapes: Mapping[str, Sequence[int]]) -> Self:
        """Return the model for these shapes of all inputs."""
        ...

    def quantized(self, samples: Iterable[Sample], settings: Settings) -> bytes:
        """Return the file of the 8-bit model, calibrated with the samples."""
        ...

    def probe(self, content: bytes | None = None) -> Probe:
        """Return a probe of this model, or of a quantised one that was made of it."""
        ...


def is_tflite(path: Path) -> bool:
    """Whether a file begins as a .tflite file does; not for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(8)[4:] == _TFLITE
    except OSError:
        return False


def open_float_model(path: Path) -> FloatModel:
    """Open a .tflite or .onnx file.

    Raises ModelError for a file that cannot be read or has another format, TeflonError if the
    library for it is not installed.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            rest = file.read() if head[4:8] == _TFLITE else b""
    except OSError as error:
        why = error.strerror or error
        raise ModelError(f"{path}: {why}, must be a readable file") from error
    if head[4:8] == _TFLITE:
        from teflon.quantize.tflite_model import TFLiteModel

        return TFLiteModel(path.name, head + rest)
    if path.suffix.lower() == ".onnx" and head and not mistaken_for(head):
        from teflon.quantize.onnx_model import OnnxModel

        return OnnxModel(path)
    meant = mistaken_for(head)
    what = f"is {meant}" if meant else "is empty" if not head else "has another format"
    raise ModelError(f"{path}: {what}, must be a {' or '.join(SUFFIXES)} file to quantise")
