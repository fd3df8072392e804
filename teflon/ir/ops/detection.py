"""TFLite_Detection_PostProcess: boxes from an SSD's raw heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir import nms
from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.types import Array, DType, TensorType

_READ = (DType.UINT8, DType.FLOAT32)


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionPostProcess(Op):
    """Decode boxes with anchors, then non-maximum suppression.

    boxes [1, N, 4+] , scores [1, N, classes+1], anchors [N, 4] (constant);
    outputs: boxes [1, D, 4] (ymin, xmin, ymax, xmax), classes [1, D], scores [1, D], count [1],
    all float32. D is max_detections * max_classes_per_detection. Rows beyond the count are 0
    (TFLite's fast suppression leaves them as they were in memory).
    """

    mnemonic: ClassVar[str] = "detection_post_process"
    tflite_name: ClassVar[str] = "TFLite_Detection_PostProcess"

    boxes: Value
    scores: Value
    anchors: Value
    outputs: tuple[Value, ...]
    max_detections: int
    max_classes_per_detection: int
    detections_per_class: int = 100
    use_regular_nms: bool = False
    nms_score_threshold: float
    nms_iou_threshold: float
    num_classes: int
    y_scale: float
    x_scale: float
    h_scale: float
    w_scale: float

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.boxes, 3)
        rules.need_rank(self.scores, 3)
        rules.need_rank(self.anchors, 2)
        count = self.boxes.shape[1]
        if self.boxes.shape[0] != 1 or self.boxes.shape[2] < 4:
            raise ValueError(f"{rules.describe(self.boxes)}, must be [1, boxes, 4 or more]")
        if self.scores.shape[:2] != (1, count):
            raise ValueError(f"{rules.describe(self.scores)}, must be [1, {count}, classes]")
        if self.anchors.shape != (count, 4):
            raise ValueError(f"{rules.describe(self.anchors)}, must be [{count}, 4]")
        rows = self.max_detections * self.max_classes_per_detection
        shapes = ((1, rows, 4), (1, rows), (1, rows), (1,))
        return tuple(TensorType(DType.FLOAT32, shape) for shape in shapes)

    def check(self) -> list[str]:
        counts = (self.max_detections, self.max_classes_per_detection, self.detections_per_class)
        problems = rules.at_least("numbers of detections and classes", counts, 1)
        problems += rules.quantised(self.boxes, self.scores, self.anchors)
        if not 0 < self.nms_iou_threshold <= 1:
            problems.append(f"nms_iou_threshold is {self.nms_iou_threshold:g}, must be in (0, 1]")
        columns = self.scores.shape[-1] if self.scores.shape else 0
        if columns - self.num_classes not in (0, 1):
            problems.append(f"num_classes is {self.num_classes}, must be {columns} or one less")
        if min(self.y_scale, self.x_scale, self.h_scale, self.w_scale) <= 0:
            problems.append("a box scale is not positive, must be above 0")
        return problems

    def missing_kernel(self) -> str:
        values = (self.boxes, self.scores, self.anchors)
        if all(v.type.dtype in _READ for v in values):
            return ""
        return rules.no_kernel(*values)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        values = (self.boxes, self.scores, self.anchors)
        encoded, scores, anchors = (
            _real(rules.present(x), value.type) for x, value in zip(operands, values, strict=True)
        )
        scales = (self.y_scale, self.x_scale, self.h_scale, self.w_scale)
        corners = nms.decode_boxes(encoded[0], anchors, scales)
        seen = scores[0, :, scores.shape[2] - self.num_classes :]
        find = self._regular if self.use_regular_nms else self._fast
        return self._results(*find(corners, seen))

    def _fast(self, corners: Array, scores: Array) -> tuple[Array, Array, Array, int, int]:
        """Suppress by each box's best class; the others follow it."""
        per_box = min(self.max_classes_per_detection, self.num_classes)
        kept = nms.suppress(corners, scores.max(axis=1), self._thresholds, self.max_detections)
        classes = nms.largest_first(scores[kept], per_box)
        best = np.take_along_axis(scores[kept], classes, axis=1)
        boxes = np.repeat(corners[kept, np.newaxis], per_box, axis=1)
        return boxes, classes, best, self.max_classes_per_detection, len(kept)

    def _regular(self, corners: Array, scores: Array) -> tuple[Array, Array, Array, int, int]:
        """Suppress class by class and keep the best of all."""
        per_class = min(self.detections_per_class, self.max_detections)
        kept, classes = nms.suppress_by_class(
            corners, scores, self._thresholds, per_class, self.max_detections
        )
        best = scores[kept, classes]
        return corners[kept, np.newaxis], classes[:, np.newaxis], best[:, np.newaxis], 1, len(kept)

    @property
    def _thresholds(self) -> tuple[np.float32, np.float32]:
        return np.float32(self.nms_score_threshold), np.float32(self.nms_iou_threshold)

    def _results(
        self, boxes: Array, classes: Array, scores: Array, pitch: int, count: int
    ) -> tuple[Array, ...]:
        """Lay out [detections, classes] results, `pitch` rows for each detection."""
        rows = self.max_detections * self.max_classes_per_detection
        found, per_box = classes.shape
        place = np.arange(found)[:, np.newaxis] * pitch + np.arange(per_box)
        out = [np.zeros((1, rows, 4)), np.zeros((1, rows)), np.zeros((1, rows))]
        for target, source in zip(out, (boxes, classes, scores), strict=True):
            target[0, place] = source
        return (*(x.astype(np.float32) for x in out), np.array([count], np.float32))


def _real(x: Array, type: TensorType) -> Array:
    """Return float32 numbers: (q - zero point) * scale, in float32."""
    if type.dtype is DType.FLOAT32:
        return x
    return (x.astype(np.float32) - np.float32(type.zero_point)) * np.float32(type.scale)
