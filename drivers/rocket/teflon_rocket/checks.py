# Ref: docs/hardware/rocket.md §3 (field widths), §5.1, §10.2
# Ref: docs/hardware/rocket_registers.json
"""What the RK3588's NPU can run under strategy `exact`: one function per limit."""

from __future__ import annotations

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.types import Activation, DType
from teflon_common.checks import Checks
from teflon_common.layout import image_shape
from teflon_rocket.chips import RK3588

CHECKS = Checks()

Convolution = Conv2D | DepthwiseConv2D
Weighted = Conv2D | DepthwiseConv2D | FullyConnected
_EIGHT_BIT = (DType.UINT8, DType.INT8)
_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def features_of(op: Weighted | Add) -> tuple[Value, ...]:
    """Return the operands and results that are feature maps."""
    return (op.a, op.b, op.output) if isinstance(op, Add) else (op.input, op.output)


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def eight_bit(op: Weighted | Add) -> str | None:
    """Inputs and outputs must all be uint8 or all int8."""
    types = {v.type.dtype for v in features_of(op)}
    if len(types) == 1 and types <= set(_EIGHT_BIT):
        return None
    return "types are " + ", ".join(v.type.dtype.value for v in features_of(op))


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def quantized(op: Weighted | Add) -> str | None:
    """Inputs and outputs must have one scale and one zero point each."""
    for value in features_of(op):
        quantization = value.type.quantization
        if quantization is None or len(set(quantization.scales)) != 1:
            count = 0 if quantization is None else len(quantization.scales)
            return f"{value.name!r} has {count} scales"
        if not 0 < quantization.scale < float("inf"):
            return f"{value.name!r} has scale {quantization.scale}"
    return None


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def computed(op: Weighted | Add) -> str | None:
    """Inputs must be computed, not constant."""
    constant = [v for v in features_of(op) if v.is_constant]
    return f"{constant[0].name!r} is constant" if constant else None


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected)
def constant_weights(op: Weighted) -> str | None:
    """Weights and bias must be constant."""
    loose = [v for v in (op.weights, op.bias) if v is not None and not v.is_constant]
    return f"{loose[0].name!r} is computed" if loose else None


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected)
def weights_like_input(op: Weighted) -> str | None:
    """Weights must have the input's type, the bias int32."""
    weights, bias = op.weights.type.dtype, op.bias.type.dtype if op.bias else DType.INT32
    if weights is op.input.type.dtype and bias is DType.INT32:
        return None
    return f"weights are {weights.value}, bias is {bias.value}"


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected)
def weights_per_tensor(op: Weighted) -> str | None:
    """Weights must have one scale and one zero point for all output channels."""
    quantization = op.weights.type.quantization
    if quantization is None:
        return "there is no scale"
    pairs = set(zip(quantization.scales, quantization.zero_points, strict=True))
    if len(pairs) != 1:
        return f"{len(pairs)} different ones"
    return None if 0 < quantization.scale < float("inf") else f"scale is {quantization.scale}"


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def activation(op: Weighted | Add) -> str | None:
    """A fused activation must be RELU, RELU6 or RELU_N1_TO_1."""
    return None if op.activation in _CLAMPS else f"activation is {op.activation.value.upper()}"


@CHECKS.requires(Conv2D, DepthwiseConv2D)
def stride(op: Convolution) -> str | None:
    """Strides must be at most 7."""
    return None if max(op.stride) <= RK3588.max_stride else f"stride is {op.stride}"


@CHECKS.requires(Conv2D, DepthwiseConv2D)
def kernel(op: Convolution) -> str | None:
    """Kernels must reach over at most 31 rows and columns."""
    high, wide = op.weights.shape[1:3]
    reach = ((high - 1) * op.dilation[0] + 1, (wide - 1) * op.dilation[1] + 1)
    if max(reach) <= RK3588.max_kernel:
        return None
    return f"kernel is {high}x{wide}, dilation {op.dilation[0]}x{op.dilation[1]}"


@CHECKS.requires(Conv2D, DepthwiseConv2D)
def padding(op: Convolution) -> str | None:
    """Padding must be at most 15 above and left of the map."""
    largest = max(op.padding.top, op.padding.left)
    return None if largest <= RK3588.max_pad else f"padding is {op.padding}"


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def channels(op: Weighted | Add) -> str | None:
    """Feature maps must have at most 8176 channels."""
    most = max(v.shape[-1] if v.shape else 1 for v in features_of(op))
    return None if most <= RK3588.max_channels else f"{most} channels"


@CHECKS.requires(Conv2D, DepthwiseConv2D, FullyConnected, Add)
def not_empty(op: Weighted | Add) -> str | None:
    """Feature maps must have elements."""
    empty = [v for v in features_of(op) if not v.type.size]
    return f"{empty[0].name!r} is {list(empty[0].shape)}" if empty else None


@CHECKS.requires(Add)
def same_shape(op: Add) -> str | None:
    """Both operands of an addition must have the result's shape."""
    if op.a.shape == op.b.shape == op.output.shape:
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


@CHECKS.requires(Add)
def at_most_four_axes(op: Add) -> str | None:
    """Operands of an addition must have 1 to 4 axes."""
    return None if 1 <= len(op.output.shape) <= 4 else f"{len(op.output.shape)} axes"


@CHECKS.requires(FullyConnected)
def one_matrix(op: FullyConnected) -> str | None:
    """A fully connected layer's rows must be the input's last axis, or the whole input."""
    rows = op.weights.shape[1]
    images, height, width, depth = image_shape(op.input.shape)
    if rows == depth and (images == 1 or op.output.shape[:-1] == op.input.shape[:-1]):
        return None
    whole = images == 1 and rows == height * width * depth
    if whole and max(height, width) <= RK3588.max_kernel:
        return None
    return f"weights have {rows} columns, the input is {list(op.input.shape)}"
