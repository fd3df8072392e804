"""Boxes from detector outputs, and drawn into pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.samples.detection import Detection, detections, draw, label_of


def outputs(count: int = 2) -> list[Array]:
    boxes = np.array([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0.3, 0.3, 0.4, 0.4]]], np.float32)
    classes = np.array([[3, 0, 7]], np.float32)
    scores = np.array([[0.5, 0.9, 0.8]], np.float32)
    return [boxes, classes, scores, np.array([count], np.float32)]


def test_best_first_and_no_more_than_counted() -> None:
    found = detections(outputs(), 0.4)
    assert [(d.label, round(d.score, 2)) for d in found] == [(0, 0.9), (3, 0.5)]
    assert found[1].left == pytest.approx(0.2)
    assert len(detections(outputs(count=3), 0.4)) == 3
    assert len(detections(outputs(count=99), 0.6)) == 2


def test_other_outputs_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^detect: the model's outputs are \[1, 10\], must be"):
        detections([np.zeros((1, 10))], 0.4)
    wrong = outputs()
    wrong[1] = wrong[1][:, :2]
    with pytest.raises(ModelError, match="must be boxes"):
        detections(wrong, 0.4)


def test_iou() -> None:
    unit = Detection(0, 0, 1, 1, 0, 1)
    assert unit.iou(unit) == 1
    assert unit.iou(Detection(0, 0.5, 1, 1.5, 0, 1)) == pytest.approx(1 / 3)
    assert unit.iou(Detection(2, 2, 3, 3, 0, 1)) == 0
    assert Detection(1, 1, 0, 0, 0, 1).iou(Detection(1, 1, 0, 0, 0, 1)) == 0


def test_drawing_marks_the_edges_and_leaves_the_original() -> None:
    image = Image.new("RGB", (100, 80), "black")
    drawn = draw(image, [Detection(0.25, 0.1, 0.75, 0.9, 0, 0.5)], ["thing"])
    assert drawn.size == image.size
    assert image.getbbox() is None
    assert drawn.getpixel((50, 59)) == (230, 25, 75)
    assert drawn.getpixel((50, 45)) == (0, 0, 0)


def test_boxes_beyond_the_picture_or_inside_out_are_drawn_all_the_same() -> None:
    image = Image.new("RGB", (50, 50))
    draw(image, [Detection(-0.5, -0.5, 2, 2, 9, 1), Detection(0.9, 0.9, 0.1, 0.1, 1, 1)], [])


def test_classes_without_a_label() -> None:
    assert label_of(1, ["a", "b"]) == "b"
    assert label_of(2, ["a", "b"]) == "class 2"
