"""PP-OCR's networks, quantised: our results beside onnxruntime's, and the text they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read
from teflon.ir import Graph
from teflon.ir.types import Array
from teflon.run.load import load
from tests.frontend.onnx.ocr import SHAPES, decoded, line, needs_ocr, quantised_ocr
from tests.frontend.onnx.oracle import compare, outputs, tensors

pytestmark = needs_ocr

TEXT = "Teflon NPU 2026"
FORMS = ("axis", "tensor")


@cache
def graph(name: str, form: str) -> Graph:
    model = quantised_ocr(name, form == "axis")
    return read(model.SerializeToString(), name, shapes={"x": SHAPES[name]})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_each_operation_is_onnxruntimes(
    name: str, form: str, record_property: Callable[[str, object], None]
) -> None:
    made = graph(name, form)
    assert isinstance(made.origin, OnnxOrigin)
    theirs = tensors(quantised_ocr(name, form == "axis"), {"x": line(TEXT, SHAPES[name])})
    found = compare(made, dict(enumerate(made.origin.names)), theirs)
    record_property(
        f"summary: PP-OCR {name} {form}", f"{len(found.steps)} results, worst {found.worst} steps"
    )
    assert found.wrong() == []


@pytest.mark.parametrize("device", ["cpu", "sim:a311d"])
@pytest.mark.parametrize("form", FORMS)
def test_the_text_is_onnxruntimes(form: str, device: str) -> None:
    """The whole recognition: what it reads of a line that it was not calibrated on."""
    x = line(TEXT, SHAPES["recognition"])
    with load(graph("recognition", form), device) as model:
        ours = _only(model(x))
    theirs = outputs(quantised_ocr("recognition", form == "axis"), {"x": x}, optimised=False)[0]
    assert decoded(ours) == decoded(theirs)
    if form == "axis":
        assert decoded(ours) == TEXT
    assert np.mean(np.abs(ours - theirs)) < 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_the_direction_is_onnxruntimes(form: str) -> None:
    x = line(TEXT, SHAPES["direction"])
    turned = np.ascontiguousarray(x[:, :, ::-1, ::-1])
    with load(graph("direction", form), "cpu") as model:
        ours = [_only(model(picture)) for picture in (x, turned)]
    for picture, scores in zip((x, turned), ours, strict=True):
        (theirs,) = outputs(quantised_ocr("direction", form == "axis"), {"x": picture},
                            optimised=False)  # fmt: skip
        assert scores.argmax() == theirs.argmax()
        assert np.abs(scores - theirs).max() < 0.05
    assert [scores.argmax() for scores in ours] == [0, 1]


@pytest.mark.parametrize("form", FORMS)
def test_the_map_of_text_is_onnxruntimes(form: str) -> None:
    """The detection: the same pixels are text, but for a few at the edges of letters."""
    x = line(TEXT, SHAPES["detection"])
    with load(graph("detection", form), "cpu") as model:
        ours = _only(model(x))
    theirs = outputs(quantised_ocr("detection", form == "axis"), {"x": x}, optimised=False)[0]
    assert np.mean((ours > 0.3) != (theirs > 0.3)) < 0.01


def _only(made: Mapping[str, Array]) -> Array:
    (array,) = made.values()
    return array
