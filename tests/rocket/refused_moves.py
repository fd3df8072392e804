"""Operations that move elements and are refused, with the rule that each breaks: by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Op
from tests.rocket.moved import image


def _op(add: Callable[[Builder], Any]) -> Callable[[], Op]:
    def make() -> Op:
        b = Builder("refused")
        made = add(b)
        for value in made if isinstance(made, tuple | list) else (made,):
            b.output(value)
        return b.build().ops[-1]

    return make


def _pad(b: Builder, **how: Any) -> Any:
    return b.op(ops.Pad, input=image(b, (1, 4, 5, 6)), **how)


def _joined_constant(b: Builder) -> Any:
    x = image(b, (1, 4))
    return b.concatenation([x, b.constant(np.zeros((1, 4), np.int8), 0.1, 3, name="c")], axis=1)


Refusal = tuple[Callable[[], Op], str]

REFUSED_MOVES: dict[str, Refusal] = {
    "four_axes": (
        _op(lambda b: b.transpose(image(b, (1, 2, 2, 2, 2)), (0, 2, 1, 3, 4))),
        "What is moved must have at most 4 axes (5 axes)",
    ),
    "all_computed": (
        _op(_joined_constant),
        "What is moved must be computed, not constant ('c' is constant)",
    ),
    "sizes": (
        _op(lambda b: b.pad(image(b, (1, 1, 2046, 1)), (0, 0, 1, 0), (0, 0, 0, 0))),
        "Maps that are padded, resized, transposed or cut in blocks must have at most 2046 rows and"
        " 2046 columns (1 rows of 2047)",
    ),
    "packs_whole_pixels": (
        _op(lambda b: b.pack([image(b, (4, 5)), image(b, (4, 5), name="y")], axis=2)),
        "PACK must keep channels together: the new axis must stand before the last one"
        " (axis is 2 of 3)",
    ),
    "forward": (
        _op(
            lambda b: b.strided_slice(
                image(b, (1, 4, 5, 6)), (0, 3, 0, 0), (1, -1, 5, 6), (1, -1, 1, 1)
            )
        ),
        "Rows, columns and images must be taken in order: steps along them must be positive, and 1"
        " along images (steps are [1, -1, 1, 1])",
    ),
    "keeps_pixels": (
        _op(lambda b: b.unpack(image(b, (4, 2)), axis=1)),
        "The axis of the channels must stay: each pixel of the result must be one of the input"
        " ([1, 1, 4, 1] becomes [1, 1, 1, 4])",
    ),
    "whole_pixels": (
        _op(lambda b: b.reshape(image(b, (1, 4, 5, 6)), (1, 3, 5, 8))),
        "A reshape must keep the last axis, or the images and a multiple or a divisor of it (one"
        " before a FULLY_CONNECTED is part of that) ([1, 4, 5, 6] becomes [1, 3, 5, 8])",
    ),
    "exchanges": (
        _op(lambda b: b.transpose(image(b, (1, 4, 5, 6)), (0, 3, 1, 2))),
        "A transposition must leave the channels last, and exchange height and width or only axes"
        " of size 1 (perm is [0, 3, 1, 2])",
    ),
    "keeps_images": (
        _op(lambda b: _pad(b, before=(1, 0, 0, 0), after=(0, 0, 0, 0))),
        "Images must not be padded (1 before, 0 after)",
    ),
    "constant_filler": (
        _op(lambda b: _pad(b, value=image(b, (1,), name="v"), before=(0,) * 4, after=(0, 1, 0, 0))),
        "What is filled in must be constant ('v' is computed)",
    ),
    "mirrors_pixels": (
        _op(
            lambda b: b.op(
                ops.MirrorPad, input=image(b, (1, 4, 5, 6)), before=(0,) * 4, after=(0, 0, 0, 1)
            )
        ),
        "Channels must not be mirrored (0 before, 1 after)",
    ),
    "height_and_width": (
        _op(
            lambda b: b.op(
                ops.SpaceToBatch, input=image(b, (1, 4, 5)), block=(2,), before=(0,), after=(0,)
            )
        ),
        "Blocks must be of height and width: what is cut in blocks must have 4 axes (3 axes)",
    ),
    "few_places": (
        _op(lambda b: b.op(ops.SpaceToDepth, input=image(b, (1, 8, 8, 1)), block=8)),
        "Blocks must have at most 7 rows and columns (blocks are 8x8)",
    ),
    "few_lines": (
        _op(lambda b: b.resize_nearest_neighbor(image(b, (1, 200, 200, 4)), (199, 199))),
        "The sizes of a RESIZE_NEAREST_NEIGHBOR must have a ratio of small numbers: at most 128"
        " different distances between rows and columns of input and output (199 distances)",
    ),
    "even_ratio": (
        _op(lambda b: b.resize_bilinear(image(b, (1, 3, 3, 4), "u8"), (401, 401))),
        "The sizes of a RESIZE_BILINEAR must have a ratio of small numbers: shares of pixels in"
        " whole 1/127, inputs of one phase at most 7 apart and the first ones among the first 31"
        " rows and columns, at most 128 phases (shares of 1/401)",
    ),
    "positions": (
        _op(
            lambda b: b.resize_bilinear(image(b, (1, 30, 30, 4)), (90, 90), half_pixel_centers=True)
        ),
        "The ratio of sizes of a RESIZE_BILINEAR of int8 must be one that TFLite's kernel counts"
        " exactly, in 1/1024 (its positions are up to 0.029 pixels off)",
    ),
}
