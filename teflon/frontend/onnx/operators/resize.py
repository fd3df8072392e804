"""Make images larger or smaller, where TFLite takes the same pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from teflon.frontend.onnx.layout import NHWC, View
from teflon.frontend.onnx.operators.row import Row
from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.types import MAX_ELEMENTS
from teflon.ir import Value, ops
from teflon.ir.types import Array, TensorType

_FORMS = ((False, False), (False, True), (True, False))
"""(align_corners, half_pixel_centers) of TFLite."""

_SAID = {"align_corners": (True, False), "half_pixel": (False, True),
         "pytorch_half_pixel": (False, True), "tf_half_pixel_for_nn": (False, True)}  # fmt: skip


def _forms(site: Site) -> list[tuple[bool, bool]]:
    """Return TFLite's forms, the one that the file names first: of some sizes several are right."""
    said = _SAID.get(site.text("coordinate_transformation_mode", ""), (False, False))
    return sorted(_FORMS, key=lambda form: form != said)


def _read_resize(site: Site) -> View:
    x = site.moved(0)
    site.require(x.rank == 4, f"input has {x.rank} axes, must have 4")
    scales, sizes = _sizes(site, x)
    site.require(sizes[:2] == x.shape[:2] and min(sizes) > 0, "changes batch or channels, must not")
    image = site.arranged(x, NHWC)
    shape = (sizes[0], *sizes[2:], sizes[1])
    mode = site.text("mode", "nearest")
    if mode == "nearest":
        return _nearest(site, image, shape, scales)
    site.require(mode in ("linear", "bilinear"), f"mode is {mode!r}, must be nearest or linear")
    return _linear(site, image, shape, scales)


def _sizes(site: Site, x: View) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return what each axis is multiplied with, and the result's sizes."""
    scales = _scales(site)
    sizes = site.whole(3, "sizes") if site.version >= 11 and site.kind == "Resize" else None
    named = site.integers("axes") if site.version >= 18 else None
    axes = list(range(x.rank)) if named is None else [site.axis(a, x.rank) for a in named]
    policy = site.text("keep_aspect_ratio_policy", "stretch")
    site.require(policy == "stretch", f"keep_aspect_ratio_policy is {policy!r}, must be stretch")
    factors, found = [1.0] * x.rank, list(x.shape)
    given = sizes if sizes else scales
    if given is None or len(given) != len(axes):
        site.unread(f"scales or sizes are {given}, must be {len(axes)} numbers")
    for axis, number in zip(axes, given, strict=True):
        have = x.shape[axis]
        if sizes:
            factors[axis], found[axis] = number / have, int(number)
        else:
            site.require(0 < number < 1e6, f"scale is {number}, must be positive")
            factors[axis], found[axis] = float(number), int(np.floor(have * number))
    site.require(
        math.prod(max(n, 1) for n in found) <= MAX_ELEMENTS, f"makes {found}, which is too large"
    )
    return tuple(factors), tuple(found)


def _scales(site: Site) -> tuple[float, ...] | None:
    if site.kind == "Upsample" and site.version < 9:
        found = site.node.attributes.get("scales")
        return None if found is None else tuple(map(float, found))
    place = 2 if site.kind == "Resize" and site.version >= 11 else 1
    data = site.constant(place, "scales")
    if data is None or not data.size:
        return None
    site.require(data.dtype.kind == "f", "scales must be real numbers")
    return tuple(float(n) for n in data.reshape(-1).tolist())


def _coordinates(site: Site, have: int, want: int, factor: float) -> Array:
    """Return where in the image each pixel of the result lies, along one axis.

    # Ref: onnx/docs/Operators.md (Resize)
    """
    old = site.kind == "Upsample" or site.version < 11
    form = "asymmetric" if old else site.text("coordinate_transformation_mode", "half_pixel")
    place = np.arange(want, dtype=np.float32)
    scale = np.float32(factor)
    if form == "asymmetric":
        return place / scale
    if form == "half_pixel":
        return (place + np.float32(0.5)) / scale - np.float32(0.5)
    if form == "pytorch_half_pixel":
        return (place + np.float32(0.5)) / scale - np.float32(0.5) if want > 1 else place * 0
    if form == "tf_half_pixel_for_nn":
        return (place + np.float32(0.5)) / scale
    if form == "align_corners":
        return place * np.float32((have - 1) / (want - 1)) if want > 1 else place * 0
    if form == "half_pixel_symmetric":
        shift = have / 2 * (1 - want / (factor * have))
        return np.float32(shift) + (place + np.float32(0.5)) / scale - np.float32(0.5)
    return site.unread(f"coordinate_transformation_mode is {form!r}, which TFLite has not")


def _nearest(site: Site, image: View, shape: tuple[int, ...], scales: tuple[float, ...]) -> View:
    """Find the form of TFLite that takes the same pixels; else gather rows and columns."""
    taken = []
    for axis, factor in ((1, scales[2]), (2, scales[3])):
        have, want = image.value.shape[axis], shape[axis]
        taken.append(np.clip(_rounded(site, _coordinates(site, have, want, factor)), 0, have - 1))
    type_ = dataclasses.replace(image.type, shape=shape)
    for align, half in _forms(site):
        op = ops.ResizeNearestNeighbor(
            input=image.value, output=Value("", type_), align_corners=align,
            half_pixel_centers=half,
        )  # fmt: skip
        if all(
            np.array_equal(op._nearest(image.value.shape[axis], shape[axis]), rows)
            for axis, rows in zip((1, 2), taken, strict=True)
        ):
            return site.moving(
                ops.ResizeNearestNeighbor, image, NHWC, shape, input=image.value,
                align_corners=align, half_pixel_centers=half,
            )  # fmt: skip
    return _gathered(site, image, taken)


def _gathered(site: Site, image: View, taken: list[Array]) -> View:
    where = site.node.where
    rows, columns = (
        site.emitter.constant(t.astype(np.int32), f"{where}/{n}")
        for t, n in zip(taken, ("rows", "columns"), strict=True)
    )
    value = site.emitter.emit(
        ops.Gather, f"{where}/rows", image.type, input=image.value, positions=rows, axis=1
    )
    return site.moving(ops.Gather, image, NHWC, input=value, positions=columns, axis=2)


def _rounded(site: Site, place: Array) -> Array:
    old = site.kind == "Upsample" or site.version < 11
    mode = "floor" if old else site.text("nearest_mode", "round_prefer_floor")
    form = site.text("coordinate_transformation_mode", "half_pixel")
    if not old and form == "tf_half_pixel_for_nn" and "nearest_mode" not in site.node.attributes:
        mode = "floor"
    ways: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if mode not in ways:
        site.unread(f"nearest_mode is {mode!r}, which is not known")
    return np.asarray(ways[mode](place)).astype(np.int64)


def _linear(site: Site, image: View, shape: tuple[int, ...], scales: tuple[float, ...]) -> View:
    site.require(not site.integer("antialias", 0), "antialias is set, must not be")
    site.require(not site.integer("exclude_outside", 0), "exclude_outside is set, must not be")
    site.require(image.type.quantization is not None, "its input is not quantised")
    type_: TensorType = dataclasses.replace(image.type, shape=shape)
    for align, half in _forms(site):
        op = ops.ResizeBilinear(
            input=image.value, output=Value("", type_), align_corners=align,
            half_pixel_centers=half,
        )  # fmt: skip
        if all(_same_taps(site, op, axis, shape[axis], scales[axis + 1]) for axis in (1, 2)):
            made = site.emitter.emit(
                ops.ResizeBilinear, f"{site.goal.name}/resized", type_, input=image.value,
                align_corners=align, half_pixel_centers=half,
            ) if not _is_goal(site, image.type) else site.computed(
                ops.ResizeBilinear, NHWC, shape, input=image.value, align_corners=align,
                half_pixel_centers=half,
            ).value  # fmt: skip
            view = View(made, NHWC)
            return view if _is_goal(site, image.type) else site.finished(view)
    return site.unread("no form of TFLite takes the same pixels")


def _is_goal(site: Site, type_: TensorType) -> bool:
    goal = site.goal_type
    return (goal.dtype, goal.quantization) == (type_.dtype, type_.quantization)


def _same_taps(
    site: Site, op: ops.ResizeBilinear, axis: int, want: int, factor: float
) -> bool:  # fmt: skip
    """Whether TFLite takes the pixels at the same places along one axis."""
    have = op.input.shape[axis]
    place = np.clip(_coordinates(site, have, want, factor), 0, have - 1)
    lower, upper, weight = op._real_taps(have, want)
    theirs = np.clip(lower + np.where(upper > lower, weight, 0), 0, have - 1)
    return bool(np.allclose(place, theirs, atol=1e-3))


ROWS = (
    Row(
        kind="Resize", read=_read_resize, moves=True, inputs=(1, 4),
        classes=(ops.ResizeNearestNeighbor, ops.ResizeBilinear, ops.Gather),
        note="height and width; nearest, or linear as TFLite has it",
    ),
    Row(
        kind="Upsample", read=_read_resize, moves=True, inputs=(1, 2),
        classes=(ops.ResizeNearestNeighbor, ops.ResizeBilinear, ops.Gather),
    ),
)  # fmt: skip
