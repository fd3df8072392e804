"""The compiler for the ABACUS: its limits as rules, and a command for each operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from teflon.errors import EncodingError
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower import clamp_of
from teflon.ir.ops import Add, Conv2D, FullyConnected
from teflon.ir.types import Activation, Array, DType
from teflon_abacus.isa import ALIGN, STEP, WORDS, Chip, Command, Opcode
from teflon_abacus.program import AbacusProgram
from teflon_common.layout import image_shape
from teflon_common.quantize import nearest_multiplier
from teflon_common.rules import Rules

Weighted = Conv2D | FullyConnected
Maker = Callable[[int], Command]
"""Makes a command once it is known where the tensors begin."""
Lower = Callable[[Any, "Block"], Maker]

RULES: Rules[Chip, Lower] = Rules()

_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


# Limits -----------------------------------------------------------------------------------------


def _features(op: Weighted | Add) -> tuple[Value, ...]:
    return (op.a, op.b, op.output) if isinstance(op, Add) else (op.input, op.output)


@RULES.requires
def eight_bit(op: Weighted | Add, chip: Chip) -> str | None:
    """Inputs and outputs must all be uint8 or all int8, with one scale each."""
    types = [v.type for v in _features(op)]
    if len({t.dtype for t in types}) > 1 or types[0].dtype not in (DType.UINT8, DType.INT8):
        return "types are " + ", ".join(t.dtype.value for t in types)
    loose = [t for t in types if t.quantization is None or len(t.quantization.scales) != 1]
    return "one has no scale, or several" if loose else None


@RULES.requires
def computed(op: Weighted | Add, chip: Chip) -> str | None:
    """Inputs must be computed, weights and bias constant."""
    constant = [v.name for v in _features(op) if v.is_constant]
    if constant:
        return f"{constant[0]!r} is constant"
    if isinstance(op, Add):
        return None
    loose = [v.name for v in (op.weights, op.bias) if v is not None and not v.is_constant]
    return f"{loose[0]!r} is computed" if loose else None


@RULES.requires
def fits(op: Weighted | Add, chip: Chip) -> str | None:
    """The operation's tensors must fit into {memory} bytes."""
    size = sum(v.type.size_bytes for v in (*op.inputs_present, op.output))
    return None if size <= chip.memory else f"they have {size} bytes"


@RULES.requires
def weights_like_input(op: Weighted, chip: Chip) -> str | None:
    """Weights must have the input's type and scales, the bias int32."""
    bias = op.bias.type.dtype if op.bias else DType.INT32
    if op.weights.type.dtype is op.input.type.dtype and bias is DType.INT32:
        return None if op.weights.type.quantization else "weights have no scale"
    return f"weights are {op.weights.type.dtype.value}, bias is {bias.value}"


@RULES.requires
def plain(op: Conv2D, chip: Chip) -> str | None:
    """Convolutions must have neither dilation nor groups."""
    if op.dilation != (1, 1):
        return f"dilation is {op.dilation}"
    inside, taps = op.input.shape[3], op.weights.shape[3]
    return None if inside == taps else f"{inside} channels in, {taps} in each kernel"


@RULES.requires
def same_shape(op: Add, chip: Chip) -> str | None:
    """Both operands of an addition must have the result's shape."""
    shapes = [list(v.shape) for v in (op.a, op.b)]
    return None if op.a.shape == op.b.shape == op.output.shape else f"shapes are {shapes}"


@RULES.requires
def clamps(op: Weighted | Add, chip: Chip) -> str | None:
    """A fused activation must be RELU, RELU6 or RELU_N1_TO_1."""
    return None if op.activation in _CLAMPS else f"it is {op.activation.value.upper()}"


# Lowering ---------------------------------------------------------------------------------------


@RULES.lowers
def convolution(op: Weighted, block: Block) -> Maker:
    """Return the maker of a CONV command."""
    outputs = op.weights.shape[0]
    scales = np.broadcast_to(_scales(op.weights), outputs) * op.input.type.scale
    table = [_factor(op, float(s) / op.output.type.scale) for s in scales]
    bias = np.zeros(outputs, np.int32) if op.bias is None else _data(op.bias)
    zero = op.weights.type.zero_point if op.input.type.dtype is DType.UINT8 else 0
    constants = (_data(op.weights), bias, np.array(table, np.int32))
    weights, biases, factors = (block.constant(array) for array in constants)
    window = _window(op)

    def make(start: int) -> Command:
        return Command(
            Opcode.CONV, op.input.type.dtype is DType.INT8, start + block.places[op.input],
            start + block.places[op.output], weights, biases, factors,
            zero_a=op.input.type.zero_point, zero_b=zero, zero_out=op.output.type.zero_point,
            clamp=_clamp(op),
        )._replace(**window)  # fmt: skip

    return make


@RULES.lowers
def addition(op: Add, block: Block) -> Maker:
    """Return the maker of an ADD command."""
    factors = [round(v.type.scale / op.output.type.scale * (1 << STEP)) for v in (op.a, op.b)]
    if max(factors) >= 1 << 31:
        raise EncodingError("scales are too far apart, must be within 2048", where=op.title)
    table = block.constant(np.array(factors, np.int32))
    images, height, width, channels = image_shape(op.output.shape)

    def make(start: int) -> Command:
        return Command(
            Opcode.ADD, op.a.type.dtype is DType.INT8, start + block.places[op.a],
            start + block.places[op.output], weights=start + block.places[op.b], table=table,
            images=images, height=height, width=width, channels=channels,
            zero_a=op.a.type.zero_point, zero_b=op.b.type.zero_point,
            zero_out=op.output.type.zero_point, clamp=_clamp(op),
        )  # fmt: skip

    return make


class Block:
    """The block of a program while it grows: constants, then commands, then tensors."""

    def __init__(self, graph: Graph) -> None:
        self.constants = bytearray()
        self.tensors = 0
        self.places: dict[Value, int] = {}
        for value in (*graph.inputs, *(v for op in graph.ops for v in op.results)):
            self.places[value] = self.tensors
            self.tensors += _aligned(value.type.size_bytes)

    def constant(self, array: Array) -> int:
        """Append a constant and return its place."""
        place = len(self.constants)
        self.constants += np.ascontiguousarray(array).tobytes()
        self.constants += bytes(-len(self.constants) % ALIGN)
        return place


def compiled(graph: Graph, chip: Chip) -> AbacusProgram:
    """Return the program of a graph. Raises EncodingError for what a command cannot say."""
    block = Block(graph)
    makers = [RULES.lowering(op)(op, block) for op in graph.ops]
    code = len(block.constants)
    start = _aligned(code + WORDS.size * len(makers))
    size = start + block.tensors
    if size > chip.memory:
        raise EncodingError(
            f"{size} bytes are needed, must be at most {chip.memory}", where="abacus"
        )
    return AbacusProgram(
        bytes(block.constants) + b"".join(WORDS.pack(*make(start)) for make in makers),
        size, code, len(makers),
        tuple(v.type for v in graph.inputs), tuple(v.type for v in graph.outputs),
        tuple(start + block.places[v] for v in graph.inputs),
        tuple(start + block.places[v] for v in graph.outputs),
        sum(op.macs for op in graph.ops),
    )  # fmt: skip


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _data(value: Value) -> Array:
    assert value.data is not None  # the rule `computed` says so
    return value.data


def _scales(value: Value) -> Array:
    quantization = value.type.quantization
    return np.array(quantization.scales if quantization else (1.0,))


def _factor(op: Op, real: float) -> tuple[int, int]:
    found = nearest_multiplier(real, 31)
    if not 1 <= found.shift <= 62:
        raise EncodingError(
            f"factor is {real:g}, must be below 2^30 and above 2^-32", where=op.title
        )
    return found.multiplier, found.shift


def _clamp(op: Any) -> int:
    low, high = clamp_of(op)
    return (high << 16) | (low & 0xFFFF)


def _window(op: Weighted) -> dict[str, int]:
    if isinstance(op, FullyConnected):
        rows, channels = op.input.type.size // op.weights.shape[1], op.weights.shape[1]
        return {"images": rows, "channels": channels, "out_channels": op.weights.shape[0]}
    images, height, width, channels = op.input.shape
    _, out_height, out_width, out_channels = op.output.shape
    return {
        "images": images, "height": height, "width": width, "channels": channels,
        "out_height": out_height, "out_width": out_width, "out_channels": out_channels,
        "kernel_height": op.weights.shape[1], "kernel_width": op.weights.shape[2],
        "stride_y": op.stride[0], "stride_x": op.stride[1],
        "pad_top": op.padding.top, "pad_left": op.padding.left,
    }  # fmt: skip
