# Ref: docs/hardware/rocket.md §5.1, §5.2
# Ref: Mesa 26.2.6, src/gallium/drivers/rocket (behaviour; nothing was copied)
"""What Mesa 26.2.6 takes, which is nearly everything that it has a form for, and its lowering."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D
from teflon.ir.types import Activation, Array
from teflon_common.rules import Rules
from teflon_rocket.chips import Chip
from teflon_rocket.mesa.coefs import MesaCoefs
from teflon_rocket.mesa.geometry import MesaGeometry
from teflon_rocket.mesa.hosts import Convolved, Host
from teflon_rocket.mesa.numbers import numbers, operand_converter, truncate_bits
from teflon_rocket.mesa.split import split
from teflon_rocket.operations.convolution import Convolution, Geometry
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.numbers import Operand

_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


@dataclass(frozen=True)
class Lowering:
    """A chip, the feature map of every value, and which convolution does which addition."""

    chip: Chip
    features: Mapping[Value, Feature]
    hosts: Mapping[Convolved, Host]


Lower = Callable[[Any, Lowering], Iterable[Convolution]]

RULES: Rules[Chip, Lower] = Rules(refusal="Mesa's driver does not run {}")


@RULES.requires
def per_tensor(op: Convolved, chip: Chip) -> str | None:
    """Mesa wants one scale and one zero point per tensor."""
    for value in (*op.inputs_present, op.output):
        found = value.type.quantization
        if found and (len(set(found.scales)) > 1 or len(set(found.zero_points)) > 1):
            return f"{value.name!r} has {len(found.scales)}"
    return None


@RULES.requires
def no_dilation(op: Convolved, chip: Chip) -> str | None:
    """Mesa wants no dilation."""
    return None if op.dilation == (1, 1) else f"dilation is {op.dilation}"


@RULES.requires
def activation(op: Convolved, chip: Chip) -> str | None:
    """Mesa knows no fused activation but RELU, RELU6 and RELU_N1_TO_1."""
    return None if op.activation in _CLAMPS else f"activation is {op.activation.value.upper()}"


@RULES.requires
def computed(op: Add, chip: Chip) -> str | None:
    """Mesa adds only tensors that are computed."""
    constant = [v for v in (op.a, op.b) if v.is_constant]
    return f"{constant[0].name!r} is constant" if constant else None


@RULES.lowers
def addition(op: Add, state: Lowering) -> Iterable[Convolution]:
    """Nothing: the host does it."""
    return ()


@RULES.lowers
def convolution(op: Conv2D | DepthwiseConv2D, state: Lowering) -> Iterable[Convolution]:
    """One convolution, with the addition that it hosts."""
    host = state.hosts[op]
    source, result = state.features[op.input], state.features[host.result]
    geometry, truncate = _geometry(host, source, result), truncate_bits(host)
    operand = None
    if host.operand is not None:
        operand = Operand(state.features[host.operand], operand_converter(host))
    yield Convolution(
        name=op.where,
        input=source,
        output=result,
        geometry=geometry,
        split=split(geometry, state.chip),
        coefs=_coefs(op, geometry, truncate),
        numbers=numbers(host, geometry, truncate),
        operand=operand,
        macs=op.macs,
    )


def _geometry(host: Host, source: Feature, result: Feature) -> MesaGeometry:
    """Return Mesa's sizes: it calls the outer axis the width, and has one stride for both axes."""
    op, pads = host.op, host.op.padding
    _, width, height, channels = source.shape
    _, out_width, out_height, out_channels = result.shape
    return MesaGeometry(
        width=width,
        height=height,
        channels=channels,
        out_width=out_width,
        out_height=out_height,
        out_channels=out_channels,
        kernel=(op.weights.shape[1], op.weights.shape[2]),
        stride=(op.stride[1], op.stride[1]),
        pads=(pads.left, pads.right, pads.top, pads.bottom),
        depthwise=isinstance(op, DepthwiseConv2D) and channels > 1 and out_channels > 1,
        rows=channels == 1 and (out_channels > 1 or host.in_addition),
        in_addition=host.in_addition,
    )


def _coefs(op: Convolved, geometry: Geometry, truncate: int) -> MesaCoefs:
    assert op.weights.data is not None  # see `veto`
    assert op.bias is not None
    assert op.bias.data is not None
    weights: Array = np.ascontiguousarray(op.weights.data).view(np.uint8).reshape(-1)
    shape = geometry.weights_shape
    return MesaCoefs(
        weights=weights[: shape[0] * shape[1] * shape[2]].reshape(shape),
        weight_zero=op.weights.type.zero_point,
        bias=op.bias.data.astype(np.int64),
        input_zero=op.input.type.zero_point,
        depthwise=geometry.depthwise,
        truncate=truncate,
    )
