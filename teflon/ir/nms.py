"""Boxes of an SSD: decoding, and non-maximum suppression, as TFLite's custom operation does it.

A box is (ymin, xmin, ymax, xmax) in float32.
"""

# Ref: LiteRT tflite/kernels/detection_postprocess.cc

from __future__ import annotations

import numpy as np

from teflon.ir.types import Array

Thresholds = tuple[np.float32, np.float32]
"""(least score, largest overlap that is kept)."""


def decode_boxes(
    encoded: Array, anchors: Array, scales: tuple[float, float, float, float]
) -> Array:
    """Return boxes [N, 4] from encodings [N, 4+] (y, x, h, w) about anchors [N, 4] (y, x, h, w).

    Computed in float64; centre and half size are rounded to float32 before they are combined.
    """
    deltas = encoded[:, :4].astype(np.float64) / np.asarray(scales, np.float32).astype(np.float64)
    centre, size = anchors[:, :2].astype(np.float64), anchors[:, 2:].astype(np.float64)
    middle = (deltas[:, :2] * size + centre).astype(np.float32)
    half = (0.5 * np.exp(deltas[:, 2:]) * size).astype(np.float32)
    return np.concatenate([middle - half, middle + half], axis=1)


def overlap(box: Array, others: Array) -> Array:
    """Return intersection over union of one box with each of [N, 4]; 0 for empty boxes."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low, np.float32(0))
    shared = sides[:, 0] * sides[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = shared / (area + areas - shared)
    return np.where((areas > 0) & (area > 0), ratio, np.float32(0))


def suppress(corners: Array, scores: Array, thresholds: Thresholds, limit: int) -> Array:
    """Return the indices of the boxes kept, best first, at most `limit` of them."""
    candidates = np.flatnonzero(scores >= thresholds[0])
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: list[int] = []
    while candidates.size and len(kept) < limit:
        best, rest = candidates[0], candidates[1:]
        kept.append(int(best))
        candidates = rest[~(overlap(corners[best], corners[rest]) > thresholds[1])]
    return np.array(kept, np.intp)


def suppress_by_class(
    corners: Array, scores: Array, thresholds: Thresholds, per_class: int, limit: int
) -> tuple[Array, Array]:
    """Return box indices and classes, best first, of all classes' suppressions together.

    After each class only the best `limit` are carried on; among equals the earlier class stays
    first.
    """
    boxes = classes = np.zeros(0, np.intp)
    for label in range(scores.shape[1]):
        kept = suppress(corners, scores[:, label], thresholds, per_class)
        boxes = np.concatenate([boxes, kept])
        classes = np.concatenate([classes, np.full(len(kept), label, np.intp)])
        order = np.argsort(-scores[boxes, classes], kind="stable")[:limit]
        boxes, classes = boxes[order], classes[order]
    return boxes, classes


def largest_first(scores: Array, count: int) -> Array:
    """Return the columns of each row's `count` largest scores, the largest first.

    Among equals the lower column comes first (where several classes of one box are asked for,
    TFLite leaves that order to the C++ library it was built with).
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
