"""What Mesa takes of convolutions and fully connected layers, and how it lowers them."""

# Ref: docs/hardware/etnaviv.md sections 4.1, 6.2, 10.1

from __future__ import annotations

from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.types import Activation, DType
from teflon_common.rules import Rules
from teflon_etnaviv.mesa.coding import CODING
from teflon_etnaviv.mesa.layers import convolution as layers
from teflon_etnaviv.mesa.layers.fully_connected import fully_connected as fully_connected_layer
from teflon_etnaviv.mesa.limits import Limits
from teflon_etnaviv.mesa.lowering import Lower, Lowering
from teflon_etnaviv.mesa.reshuffle import Reshuffle, reshuffle_jobs, reshuffled_shape
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.operations import Operation

RULES = Rules[Limits, Lower]()

Convolution = Conv2D | DepthwiseConv2D

_BYTES = (DType.INT8, DType.UINT8)


@RULES.requires
def one_scale(op: Convolution, limits: Limits) -> str | None:
    """The tensors of a convolution must have one scale each."""
    for value in (*op.inputs_present, *op.results):
        scales = value.type.quantization.scales if value.type.quantization else ()
        if len(set(scales)) > 1:
            return f"{value.name!r} has {len(set(scales))}"
    return None


@RULES.requires
def no_dilation(op: Convolution, limits: Limits) -> str | None:
    """Dilation must be 1 in both directions."""
    return None if op.dilation == (1, 1) else f"dilation is {op.dilation}"


@RULES.requires
def known_activation(op: Convolution, limits: Limits) -> str | None:
    """An activation must be RELU or RELU6."""
    known = (Activation.NONE, Activation.RELU, Activation.RELU6)
    return None if op.activation in known else f"activation is {op.activation.value.upper()}"


@RULES.requires
def stride(op: Convolution, limits: Limits) -> str | None:
    """Strides must be 1 or 2, the same in both directions."""
    return None if op.stride in ((1, 1), (2, 2)) else f"stride is {op.stride}"


@RULES.requires
def constant_weights(op: Convolution, limits: Limits) -> str | None:
    """Weights must be constant bytes."""
    kind = op.weights.type.dtype
    if kind in _BYTES and op.weights.data is not None:
        return None
    return f"weights are {kind.value}{'' if op.weights.is_constant else ', computed'}"


@RULES.requires
def relu6_is_the_range(op: Convolution, limits: Limits) -> str | None:
    """An output with RELU6 must have 8 bits that mean at most {clamp_max}."""
    if op.activation is not Activation.RELU6:
        return None
    kind = op.output.type
    if kind.dtype not in _BYTES:
        return f"it is {kind.dtype.value}"
    largest = (kind.dtype.range[1] - kind.zero_point) * kind.scale
    return None if largest <= limits.clamp_max else f"it reaches {largest:.4g}"


@RULES.requires
def eight_bit(op: FullyConnected, limits: Limits) -> str | None:
    """The input of a fully connected layer must be uint8 or int8."""
    kind = op.input.type.dtype
    return None if kind in _BYTES else f"it is {kind.value}"


@RULES.requires
def input_count(op: FullyConnected, limits: Limits) -> str | None:
    """A fully connected layer must have fewer than {inputs_end} inputs."""
    inputs = op.input.shape[-1]
    return None if inputs < limits.inputs_end else f"it has {inputs}"


@RULES.lowers
def convolution(op: Convolution, state: Lowering) -> Operation:
    """Put a reshuffle before a convolution with strides of 2, unless it drops results instead."""
    source, target = state.read_planes(op, op.input), state.tensor(op.output)
    if layers.stride_form(op, state.chip).reshuffle:
        same, kernel = layers.pads(op), op.weights.shape[1]
        blocks = state.fresh(source, "2x2 blocks", reshuffled_shape(source.shape, same, kernel))
        jobs = reshuffle_jobs(source.shape, state.chip)
        state.done.append(Reshuffle(op.where, (source,), (blocks,), same, kernel, jobs))
        source = blocks
    state.copy_layout(source, target)
    return NN(op.where, (source,), (target,), layers.convolution(op, state.chip), CODING)


@RULES.lowers
def fully_connected(op: FullyConnected, state: Lowering) -> Operation:
    """Run on the input in planes."""
    source, target = state.read_planes(op, op.input), state.tensor(op.output)
    return NN(op.where, (source,), (target,), fully_connected_layer(op), CODING)
