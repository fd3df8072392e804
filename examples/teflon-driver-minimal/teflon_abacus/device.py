"""What the ABACUS can run, and the compiler for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from teflon.errors import EncodingError, ProgramError, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower import clamp_of
from teflon.ir.ops import Add, Conv2D, FullyConnected
from teflon.ir.types import Activation, Array, DType, TensorType
from teflon.pipe import Data, Device, Program
from teflon_abacus.isa import ALIGN, MEMORY, STEP, WORDS, Command, Opcode
from teflon_common import program as container
from teflon_common.checks import Checks
from teflon_common.layout import image_shape
from teflon_common.quantize import nearest_multiplier

DRIVER, CHIP, VERSION = "abacus", "abacus1", "1"
CHECKS = Checks()

Weighted = Conv2D | FullyConnected
_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def _features(op: Weighted | Add) -> tuple[Value, ...]:
    return (op.a, op.b, op.output) if isinstance(op, Add) else (op.input, op.output)


@CHECKS.requires(Conv2D, FullyConnected, Add)
def eight_bit(op: Weighted | Add) -> str | None:
    """Inputs and outputs must all be uint8 or all int8, with one scale each."""
    types = [v.type for v in _features(op)]
    if len({t.dtype for t in types}) > 1 or types[0].dtype not in (DType.UINT8, DType.INT8):
        return "types are " + ", ".join(t.dtype.value for t in types)
    loose = [t for t in types if t.quantization is None or len(t.quantization.scales) != 1]
    return "one has no scale, or several" if loose else None


@CHECKS.requires(Conv2D, FullyConnected, Add)
def computed(op: Weighted | Add) -> str | None:
    """Inputs must be computed, weights and bias constant."""
    constant = [v.name for v in _features(op) if v.is_constant]
    if constant:
        return f"{constant[0]!r} is constant"
    if isinstance(op, Add):
        return None
    loose = [v.name for v in (op.weights, op.bias) if v is not None and not v.is_constant]
    return f"{loose[0]!r} is computed" if loose else None


@CHECKS.requires(Conv2D, FullyConnected)
def weights_like_input(op: Weighted) -> str | None:
    """Weights must have the input's type and scales, the bias int32."""
    bias = op.bias.type.dtype if op.bias else DType.INT32
    if op.weights.type.dtype is op.input.type.dtype and bias is DType.INT32:
        return None if op.weights.type.quantization else "weights have no scale"
    return f"weights are {op.weights.type.dtype.value}, bias is {bias.value}"


@CHECKS.requires(Conv2D)
def plain(op: Conv2D) -> str | None:
    """Convolutions must have neither dilation nor groups."""
    if op.dilation != (1, 1):
        return f"dilation is {op.dilation}"
    inside, taps = op.input.shape[3], op.weights.shape[3]
    return None if inside == taps else f"{inside} channels in, {taps} in each kernel"


@CHECKS.requires(Add)
def same_shape(op: Add) -> str | None:
    """Both operands of an addition must have the result's shape."""
    shapes = [list(v.shape) for v in (op.a, op.b)]
    return None if op.a.shape == op.b.shape == op.output.shape else f"shapes are {shapes}"


@CHECKS.requires(Conv2D, FullyConnected, Add)
def clamps(op: Weighted | Add) -> str | None:
    """A fused activation must be RELU, RELU6 or RELU_N1_TO_1."""
    return None if op.activation in _CLAMPS else f"it is {op.activation.value.upper()}"


class AbacusDevice(Device):
    """The chip; stateless."""

    driver = DRIVER
    chip = CHIP

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        """Return why an operation cannot run here."""
        if type(op) not in CHECKS.ops:
            return ["the ABACUS runs CONV_2D, FULLY_CONNECTED and ADD"]
        return CHECKS.reasons(op)

    def compile(self, subgraph: Graph) -> Program:
        """Return the program of a graph that `unsupported` has nothing against."""
        for op in subgraph.ops:
            if reasons := self.unsupported(op, subgraph):
                raise UnsupportedOperation(op.title, reasons)
        return _Compiler(subgraph).program()

    def load(self, data: Data) -> Program:
        """Return the program that `to_bytes` wrote."""
        header, arrays = container.unpack(data, DRIVER, VERSION)
        container.refuse_other("chip", header["chip"], CHIP)
        with container.reading():
            types = [[container.type_from_json(t) for t in header[k]] for k in ("ins", "outs")]
            places = (tuple(header["in_places"]), tuple(header["out_places"]))
            return AbacusProgram(
                arrays["image"].tobytes(), header["size"], header["code"], header["commands"],
                tuple(types[0]), tuple(types[1]), *places, header["macs"],
            )  # fmt: skip

    def describe(self, program: Program) -> str:
        """Return the commands as text."""
        if not isinstance(program, AbacusProgram):
            raise ProgramError(f"abacus: program is for {program.chip!r}, must be for {CHIP!r}")
        code = program.image[program.code :]
        rows = [Command(*words) for words in WORDS.iter_unpack(code)]
        return "\n".join(f"{Opcode(row.opcode).name} {row}" for row in rows)


@dataclass(frozen=True)
class AbacusProgram(Program):
    """One block of device memory, at any base: constants, commands, then room for tensors."""

    image: bytes
    size: int  # of the whole block; tensors lie behind the image
    code: int  # where the commands begin in the image; they reach to its end
    commands: int
    inputs: Sequence[TensorType]
    outputs: Sequence[TensorType]
    in_places: tuple[int, ...]
    out_places: tuple[int, ...]
    macs: int
    driver: str = DRIVER
    chip: str = CHIP

    @cached_property
    def statistics(self) -> dict[str, int]:
        """Counts and sizes."""
        words = (len(self.image) - self.code) // 4
        return {"tasks": self.commands, "jobs": 1, "command_words": words,
                "coefficient_bytes": self.code, "macs": self.macs}  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return the common container with everything in it."""
        header = {
            "driver": DRIVER, "version": VERSION, "chip": CHIP, "strategy": "", "size": self.size,
            "code": self.code, "commands": self.commands, "macs": self.macs,
            "ins": [container.type_to_json(t) for t in self.inputs],
            "outs": [container.type_to_json(t) for t in self.outputs],
            "in_places": self.in_places, "out_places": self.out_places,
        }  # fmt: skip
        return container.pack(header, {"image": np.frombuffer(self.image, np.uint8)})


class _Compiler:
    """Lays constants, then commands, then tensors into one block."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants = bytearray()
        self.places: dict[Value, int] = {}  # offset behind the image, until that is laid out
        self.tensors = 0

    def program(self) -> AbacusProgram:
        for value in (*self.graph.inputs, *(v for op in self.graph.ops for v in op.results)):
            self.places[value] = self.tensors
            self.tensors += _aligned(value.type.size_bytes)
        makers = [self._maker(op) for op in self.graph.ops]
        code = len(self.constants)
        start = _aligned(code + WORDS.size * len(makers))
        image = bytes(self.constants) + b"".join(WORDS.pack(*make(start)) for make in makers)
        if start + self.tensors > MEMORY:
            raise EncodingError(
                f"abacus: {start + self.tensors} bytes are needed, must be at most {MEMORY}"
            )
        graph = self.graph
        return AbacusProgram(
            image, start + self.tensors, code, len(makers),
            tuple(v.type for v in graph.inputs), tuple(v.type for v in graph.outputs),
            tuple(start + self.places[v] for v in graph.inputs),
            tuple(start + self.places[v] for v in graph.outputs),
            sum(op.macs for op in graph.ops),
        )  # fmt: skip

    def _maker(self, op: Op) -> Callable[[int], Command]:
        """Return what makes an operation's command once the place of tensors is known."""
        if isinstance(op, Add):
            return self._addition(op)
        assert isinstance(op, Conv2D | FullyConnected)  # `unsupported` said so
        return self._convolution(op)

    def _convolution(self, op: Weighted) -> Callable[[int], Command]:
        outputs = op.weights.shape[0]
        scales = np.broadcast_to(_scales(op.weights), outputs) * op.input.type.scale
        table = [_factor(op, float(s) / op.output.type.scale) for s in scales]
        bias = np.zeros(outputs, np.int32) if op.bias is None else _data(op.bias)
        zero = op.weights.type.zero_point if op.input.type.dtype is DType.UINT8 else 0
        places = [self._constant(a) for a in (_data(op.weights), bias, np.array(table, np.int32))]
        window = _window(op)

        def make(start: int) -> Command:
            return Command(
                Opcode.CONV, op.input.type.dtype is DType.INT8,
                start + self.places[op.input], start + self.places[op.output], places[0],
                places[1], places[2],
                zero_a=op.input.type.zero_point, zero_b=zero,
                zero_out=op.output.type.zero_point, clamp=_clamp(op),
            )._replace(**window)  # fmt: skip

        return make

    def _addition(self, op: Add) -> Callable[[int], Command]:
        factors = [round(v.type.scale / op.output.type.scale * (1 << STEP)) for v in (op.a, op.b)]
        if max(factors) >= 1 << 31:
            raise EncodingError(f"{op.title}: scales are too far apart, must be within 2048")
        table = self._constant(np.array(factors, np.int32))
        images, height, width, channels = image_shape(op.output.shape)

        def make(start: int) -> Command:
            return Command(
                Opcode.ADD, op.a.type.dtype is DType.INT8, start + self.places[op.a],
                start + self.places[op.output], weights=start + self.places[op.b], table=table,
                images=images, height=height, width=width, channels=channels,
                zero_a=op.a.type.zero_point, zero_b=op.b.type.zero_point,
                zero_out=op.output.type.zero_point, clamp=_clamp(op),
            )  # fmt: skip

        return make

    def _constant(self, array: Array) -> int:
        place = len(self.constants)
        self.constants += np.ascontiguousarray(array).tobytes()
        self.constants += bytes(-len(self.constants) % ALIGN)
        return place


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _data(value: Value) -> Array:
    assert value.data is not None  # `unsupported` said so
    return value.data


def _scales(value: Value) -> Array:
    quantization = value.type.quantization
    return np.array(quantization.scales if quantization else (1.0,))


def _factor(op: Op, real: float) -> tuple[int, int]:
    found = nearest_multiplier(real, 31)
    if not 1 <= found.shift <= 62:
        raise EncodingError(f"{op.title}: factor is {real:g}, must be below 2^30 and above 2^-32")
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
