"""The three networks of PP-OCR, as a package ships them, quantised on lines of text that we draw.

The package is rapidocr-onnxruntime. It is looked for, never imported: its program needs OpenCV.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw, ImageFont

from teflon.ir.types import Array
from tests.frontend.onnx.quantisers import Form, quantised

_FILES = {
    "detection": "ch_PP-OCRv4_det_infer.onnx",
    "direction": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognition": "ch_PP-OCRv4_rec_infer.onnx",
}
SHAPES = {
    "detection": (1, 3, 64, 160),
    "direction": (1, 3, 48, 192),
    "recognition": (1, 3, 48, 240),
}
"""Of each network's only input, `x`."""

FORMS = {
    "axis": Form(signed=False),
    "tensor": Form(False, False, False, False, symmetric_weights=False),
}
"""Weights per channel, int8; and per tensor, uint8: with int8 onnxruntime reads nothing either."""

CALIBRATION = ("open hardware", "Rock 5B 8 GB", "quantised to int8", "3.14159265", "QUICK FOX")


def _folder() -> Path | None:
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    places = list(spec.submodule_search_locations or []) if spec else []
    folder = Path(places[0]) / "models" if places else None
    return folder if folder and all((folder / f).is_file() for f in _FILES.values()) else None


FOLDER = _folder()
needs_ocr = pytest.mark.skipif(
    FOLDER is None, reason="no PP-OCR models (pip install --no-deps rapidocr-onnxruntime)"
)


def line(text: str, shape: Sequence[int]) -> Array:
    """Return a line of text as the networks take it: [1, 3, height, width], -1 to 1."""
    height, width = shape[2:]
    size = min(height, 48) * 2 // 3
    picture = Image.new("RGB", (width, height), "white")
    place = (8, (height - size) // 2 - size // 8)
    ImageDraw.Draw(picture).text(place, text, fill="black", font=ImageFont.load_default(size))
    pixels = np.asarray(picture, np.float32) / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


@cache
def floating(name: str) -> onnx.ModelProto:
    """Return one of the networks in opset 13, the first with scales for each channel."""
    assert FOLDER is not None
    made: onnx.ModelProto = onnx.version_converter.convert_version(
        onnx.load(FOLDER / _FILES[name]), 13
    )
    return made


def _ready(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model through onnxruntime's simplest optimiser, as its quantiser recommends.

    A BatchNormalization becomes part of the convolution before it, Constant nodes initialisers.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "ready.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options)
        return onnx.load(options.optimized_model_filepath)


@cache
def quantised_ocr(name: str, form: str, ready: bool = True) -> onnx.ModelProto:
    """Return one of the networks, quantised to QDQ on drawn lines.

    Without being made `ready` its weights are Constant nodes, which onnxruntime quantises like
    activations: a QuantizeLinear stands behind each.
    """

    def batches() -> Iterator[dict[str, Array]]:
        for text in CALIBRATION:
            yield {"x": line(text, SHAPES[name])}

    model = floating(name)
    return quantised(_ready(model) if ready else model, FORMS[form], batches())


@cache
def characters() -> list[str]:
    """Return what each class of the recognition stands for; the first is the blank."""
    model = floating("recognition")
    listed = next(p.value for p in model.metadata_props if p.key == "character")
    return ["", *listed.splitlines(), " "]


def decoded(scores: Array) -> str:
    """Return the text of the recognition's output [1, steps, classes]: CTC, the best path."""
    best = scores[0].argmax(-1)
    letters = characters()
    return "".join(
        letters[c] for c, before in zip(best, (-1, *best[:-1]), strict=True) if c != before
    )
