"""PP-OCR's networks, quantised: our results beside onnxruntime's, and the text they read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read

from teflon.ir import Graph
from tests.frontend.onnx.ocr import SHAPES, line, needs_ocr, quantised_ocr
from tests.frontend.onnx.oracle import compare, tensors

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
