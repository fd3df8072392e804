"""Layers for tests of the VeriSilicon chips, and the instructions that read their coefficients."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.nn.layer import Layer, Weights


def layer(weights: npt.NDArray[np.uint8], bias: list[int], zero: int = 0x80, in_zero: int = 10,
          size: int = 4, **more: Any) -> Layer:  # fmt: skip
    """A convolution of [OC, IC, KH, KW] weights with an output of size x size."""
    kernels, planes, rows, columns = weights.shape
    flat = np.ascontiguousarray(weights).reshape(-1)
    plain = Layer(
        height=size, width=size, in_channels=planes, planes=planes,
        out_height=size, out_width=size, out_channels=kernels, kernel_height=rows,
        kernel_width=columns, in_zero=in_zero, out_zero=0, scale=np.float32(1),
        weights=Weights(flat, zero, zero), bias=np.array(bias, np.int32),
    )  # fmt: skip
    return dataclasses.replace(plain, **more)


def changed(instruction: NNInstruction, **more: Any) -> NNInstruction:
    """The instruction with other values in some fields."""
    fields = {field.name: getattr(instruction, field.name) for field in instruction.fields}
    return NNInstruction(**(fields | more))


def instruction(like: Layer, per_core: int, address: int = 0x1000, **more: Any) -> NNInstruction:
    """The instruction for a layer whose coefficients lie at an address."""
    plain = NNInstruction(
        kernel_xy_size=like.kernel_width, kernel_y_size=like.kernel_height,
        kernel_z_size=like.planes, kernels_per_core=per_core, kernel_address=address >> 6,
        out_image_z_size=like.out_channels, out_image_x_size=like.out_width,
        out_image_y_size=like.out_height, out_image_x_stride=like.out_width,
        out_image_y_stride=like.out_height, in_image_x_size=like.width,
        in_image_y_size=like.height, coef_zero_point=like.weights.zero, depthwise=like.depthwise,
        out_image_tile_x_size=1, out_image_tile_y_size=1,
    )  # fmt: skip
    return changed(plain, **more)
