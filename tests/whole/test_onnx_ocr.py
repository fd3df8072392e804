"""PP-OCR's networks, quantised: our results beside onnxruntime's, and the text they read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read
from teflon.ir import Graph
from teflon.ir.types import Array
from teflon.run.load import load
from tests.frontend.onnx.ocr import FORMS, SHAPES, decoded, line, needs_ocr, quantised_ocr
from tests.frontend.onnx.oracle import compare, outputs, tensors

pytestmark = needs_ocr

TEXT = "Teflon 2026"
Record = Callable[[str, object], None]


def opened(name: str, form: str) -> tuple[onnx.ModelProto, Graph]:
    model = quantised_ocr(name, form)
    return model, read(model.SerializeToString(), name, shapes={"x": SHAPES[name]})


def worst_step(model: onnx.ModelProto, graph: Graph, x: Array) -> str:
    """Compare each operation with onnxruntime's, and return what is to be told of it."""
    assert isinstance(graph.origin, OnnxOrigin)
    found = compare(graph, dict(enumerate(graph.origin.names)), tensors(model, {"x": x}))
    assert found.wrong() == []
    assert len(found.steps) > 100
    return f"{len(found.steps)} results, at most {found.worst} step from onnxruntime's"


def computed(graph: Graph, device: str, x: Array) -> Array:
    with load(graph, device) as model:
        (array,) = model(x).values()
    return array


@pytest.mark.parametrize("form", FORMS)
def test_recognition(form: str, record_property: Record) -> None:
    """The text of a line that it was not calibrated on, on the processor and on a chip."""
    model, graph = opened("recognition", form)
    x = line(TEXT, SHAPES["recognition"])
    told = worst_step(model, graph, x)
    (theirs,) = outputs(model, {"x": x}, optimised=False)
    ours = computed(graph, "cpu", x)
    assert decoded(ours).strip() == decoded(theirs).strip() == TEXT
    assert decoded(computed(graph, "sim:a311d", x)).strip() == TEXT
    apart = np.abs(ours - theirs).sum(-1).mean() / 2
    told += f"; {apart:.1%} of the probabilities lie elsewhere; reads {decoded(ours)!r}"
    record_property(f"summary: PP-OCR recognition, {form}", told)
    assert apart < 0.2


@pytest.mark.parametrize("form", FORMS)
def test_direction(form: str, record_property: Record) -> None:
    model, graph = opened("direction", form)
    x = line(TEXT, SHAPES["direction"])
    record_property(f"summary: PP-OCR direction, {form}", worst_step(model, graph, x))
    for picture in (x, np.ascontiguousarray(x[:, :, ::-1, ::-1])):
        (theirs,) = outputs(model, {"x": picture}, optimised=False)
        ours = computed(graph, "cpu", picture)
        assert ours.argmax() == theirs.argmax()
        assert np.abs(ours - theirs).max() < 0.1


@pytest.mark.parametrize("form", FORMS)
def test_detection(form: str, record_property: Record) -> None:
    """The map of text: the same pixels, but for a few at the edges of letters."""
    model, graph = opened("detection", form)
    x = line(TEXT, SHAPES["detection"])
    told = worst_step(model, graph, x)
    (theirs,) = outputs(model, {"x": x}, optimised=False)
    other = np.mean((computed(graph, "cpu", x) > 0.3) != (theirs > 0.3))
    record_property(f"summary: PP-OCR detection, {form}", f"{told}; {other:.2%} of pixels differ")
    assert 0.02 < np.mean(theirs > 0.3) < 0.9
    assert other < 0.01
