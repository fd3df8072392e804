"""TFLite_Detection_PostProcess: three operands, four results, a map of settings."""

from __future__ import annotations

from typing import Any

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.flexbuffer import Scalar, read_map
from teflon.frontend.tflite.node import NodeView, float32
from teflon.frontend.tflite.operators.row import Row, Written
from teflon.ir import Op, ops

_WHOLE = ("max_detections", "max_classes_per_detection", "num_classes")
_REAL = (
    "nms_score_threshold",
    "nms_iou_threshold",
    "y_scale",
    "x_scale",
    "h_scale",
    "w_scale",
)
_DETECTIONS_PER_CLASS = 100  # Ref: LiteRT, tflite/kernels/detection_postprocess.cc, Init


def _read_detection(node: NodeView) -> Op:
    try:
        found = read_map(node.custom_options)
    except ValueError as error:
        node.unread(f"custom options: {error}")
    missing = [name for name in _WHOLE + _REAL if name not in found]
    node.require(not missing, f"custom options lack {', '.join(missing)}")
    settings: dict[str, Any] = {name: _whole(node, name, found[name]) for name in _WHOLE}
    settings |= {name: float32(found[name]) for name in _REAL}
    each = found.get("detections_per_class", _DETECTIONS_PER_CLASS)
    return ops.DetectionPostProcess(
        boxes=node.input(0, 3),
        scores=node.input(1, 3),
        anchors=node.input(2, 2),
        outputs=node.outputs,
        detections_per_class=_whole(node, "detections_per_class", each),
        use_regular_nms=bool(found.get("use_regular_nms", False)),
        index=node.index,
        **settings,
    )


def _whole(node: NodeView, name: str, value: Scalar) -> int:
    good = float(value).is_integer() and 0 < value < 1 << 31
    node.require(good, f"{name} is {value}, must be a positive whole number")
    return int(value)


def _write_detection(op: ops.DetectionPostProcess) -> Written:
    from flatbuffers import flexbuffers  # for writing this one operation only

    settings = {name: getattr(op, name) for name in schema.DETECTION_OPTIONS}
    raw = bytes(flexbuffers.Dumps(settings))
    return Written([op.boxes, op.scores, op.anchors], custom_options=raw)


ROWS = (
    Row(
        kind=ops.DetectionPostProcess, read=_read_detection, write=_write_detection,
        inputs=(3, 3), outputs=4,
    ),
)  # fmt: skip
