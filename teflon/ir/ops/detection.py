"""TFLite_Detection_PostProcess: boxes from an SSD's raw heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionPostProcess(Op):
    """Decode boxes with anchors, then non-maximum suppression.

    boxes [1, N, 4+] , scores [1, N, classes+1], anchors [N, 4] (constant);
    outputs: boxes [1, D, 4] (ymin, xmin, ymax, xmax), classes [1, D], scores [1, D], count [1],
    all float32.
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
