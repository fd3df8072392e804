"""Reading the boxes from a detector's outputs, and drawing them into a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from teflon.errors import ModelError
from teflon.ir.types import Array

PALETTE = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


@dataclass(frozen=True)
class Detection:
    """One detected object: its class number, its score, and its box.

    The box is in fractions of the picture's height and width.
    """

    top: float
    left: float
    bottom: float
    right: float
    label: int
    score: float

    def iou(self, other: Detection) -> float:
        """Return the overlap: intersection over union of the boxes."""
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        width = min(self.right, other.right) - max(self.left, other.left)
        shared = max(0.0, height) * max(0.0, width)
        total = self.area + other.area - shared
        return shared / total if total > 0 else 0.0

    @property
    def area(self) -> float:
        return max(0.0, self.bottom - self.top) * max(0.0, self.right - self.left)


def detections(outputs: Sequence[Array], threshold: float) -> list[Detection]:
    """Return the objects with a score of at least `threshold`, best first.

    `outputs` are those of TFLite_Detection_PostProcess: boxes [1, D, 4], classes [1, D], scores
    [1, D], count [1]. Raises ModelError for outputs of another shape.
    """
    shapes = [o.shape for o in outputs]
    if len(outputs) != 4 or not _shapes_fit(shapes):
        raise ModelError(
            f"detect: the model's outputs are {', '.join(str(list(s)) for s in shapes)}, must be"
            " boxes [1, D, 4], classes [1, D], scores [1, D] and count [1], which"
            " TFLite_Detection_PostProcess makes"
        )
    boxes, classes, scores, count = (np.asarray(o, np.float64) for o in outputs)
    number = min(int(count.flat[0]), boxes.shape[1])
    found = [
        Detection(float(top), float(left), float(bottom), float(right), int(label), float(score))
        for (top, left, bottom, right), label, score in zip(
            boxes[0, :number], classes[0, :number], scores[0, :number], strict=True
        )
        if score >= threshold
    ]
    return sorted(found, key=lambda d: -d.score)


def _shapes_fit(shapes: Sequence[tuple[int, ...]]) -> bool:
    boxes, classes, scores, count = shapes
    places = classes[-1:]
    return boxes == (1, *places, 4) and classes == scores == (1, *places) and count == (1,)


def label_of(number: int, labels: Sequence[str]) -> str:
    """Return the name of a class; `class N` if there are too few labels."""
    return labels[number] if 0 <= number < len(labels) else f"class {number}"


def draw(image: Image.Image, found: Sequence[Detection], labels: Sequence[str]) -> Image.Image:
    """Return a copy of a picture with the boxes, names and scores of the objects."""
    picture = image.convert("RGB")
    pen = ImageDraw.Draw(picture)
    size = max(12, picture.height // 40)
    font = ImageFont.load_default(size)
    for box in reversed(found):
        colour = PALETTE[box.label % len(PALETTE)]
        left, top = box.left * picture.width, box.top * picture.height
        right, bottom = box.right * picture.width, box.bottom * picture.height
        edges = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        pen.rectangle(edges, outline=colour, width=max(2, size // 6))
        text = f"{label_of(box.label, labels)} {box.score:.0%}"
        anchor = (max(0.0, left), max(0.0, top))
        pen.rectangle(pen.textbbox(anchor, text, font=font), fill=colour)
        pen.text(anchor, text, fill="white", font=font)
    return picture
