"""TEFLON_DEBUG=verbose: the tables that Mesa's Teflon prints, in its columns."""

# Ref: Mesa 26.2.6, src/gallium/frontends/teflon/tfl_device.c (titles, widths, names)

from __future__ import annotations

from teflon import debug
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Activation, DType
from teflon.partition import Plan

NAMES = {
    "ABS": "ABS", "ADD": "ADD", "AVERAGE_POOL_2D": "AVGPOOL", "CONCATENATION": "CONCAT",
    "CONV_2D": "CONV", "DEPTHWISE_CONV_2D": "DWCONV", "DEQUANTIZE": "DEQUANT",
    "FULLY_CONNECTED": "FC", "HARD_SWISH": "HSWISH", "LEAKY_RELU": "LEAKY_RELU",
    "LOGISTIC": "LOG", "MAXIMUM": "MAX", "MAX_POOL_2D": "MAXPOOL", "MEAN": "MEAN",
    "MINIMUM": "MIN", "MUL": "MUL", "PAD": "PAD", "QUANTIZE": "QUANT", "RELU": "RELU",
    "RESHAPE": "RESHAPE", "RESIZE_BILINEAR": "RESIZE", "RESIZE_NEAREST_NEIGHBOR": "RESIZE",
    "SOFTMAX": "SOFTMAX", "SPLIT": "SPLIT", "SQUEEZE": "SQUEEZE",
    "STRIDED_SLICE": "STRIDED_SLICE", "SUB": "SUB", "TANH": "TANH", "TRANSPOSE": "TRANSPOSE",
}  # fmt: skip
_LETTERS = {
    DType.FLOAT32: "f32", DType.UINT16: "u16", DType.INT16: "i16", DType.UINT32: "u32",
    DType.INT32: "i32", DType.UINT8: "u8", DType.INT8: "i8",
}  # fmt: skip
_ACTIVATIONS = {Activation.RELU: " ReLU", Activation.RELU6: " ReLU6"}


def show_plan(plan: Plan) -> None:
    """Log which operations the first device takes, then every partition that it got."""
    if not debug.enabled("verbose"):
        return
    numbers = tensor_numbers(plan.graph)
    debug.log(f"Teflon delegate: loaded {plan.devices[0].partition(' ')[0]} driver")
    debug.log("\n".join(support_table(plan, numbers)))
    for part in plan.partitions:
        if part.device == 0:
            debug.log("\n".join(graph_tables(part.graph, numbers)))


def compiled(seconds: float) -> None:
    """Log how long compiling a partition took."""
    if debug.enabled("verbose"):
        debug.log(f"teflon: compiled graph, took {seconds * 1e3:.0f} ms")


def invoked(seconds: float) -> None:
    """Log how long running a partition took."""
    if debug.enabled("verbose"):
        debug.log(f"teflon: invoked graph, took {seconds * 1e3:.0f} ms")


def tensor_numbers(graph: Graph) -> dict[Value, int]:
    """Return the tensors' numbers in their file; for values of no file, the next free ones."""
    taken = {v.index for v in graph.values}
    free = (n for n in range(2 * len(graph.values) + 1) if n not in taken)
    return {v: v.index if v.index >= 0 else next(free) for v in graph.values}


def support_table(plan: Plan, numbers: dict[Value, int]) -> list[str]:
    """Return a line for every operation: whether the first device takes it.

    The IR keeps the version of an operation only where it could not read it; else it is `v-`.
    """
    lines = [f"{'idx':>3} {'type':<15} {'ver':>3} {'support':<11} inputs", "=" * 96]
    for number, placement in enumerate(plan.placements.values()):
        support = "supported" if placement.device == 0 else "unsupported"
        version = f"v{getattr(placement.op, 'version', '-'):<2}"
        title = f"{number:>3} {_name(placement.op):<15} {version} {support:<11}"
        lines.append(f"{title} {_wiring(placement.op, numbers)}")
    return lines


def graph_tables(graph: Graph, numbers: dict[Value, int]) -> list[str]:
    """Return the tables of tensors and operations of a partition."""
    lines = [
        "", f"teflon: compiling graph: {len(numbers)} tensors {len(graph.ops)} operations",
        f"{'idx':>3} {'scale':<8} {'zp':>3} has_data {'size':<12}", "=" * 39,
    ]  # fmt: skip
    for value in graph.values:
        type_ = value.type
        shape = "x".join(map(str, (1,) * (4 - type_.rank) + type_.shape))
        lines.append(
            f"{numbers[value]:>3} {type_.scale:<8.6f} {type_.zero_point & 0xFFFFFFFF:>3x}"
            f" {'yes' if value.is_constant else 'no':<8} {shape}"
        )
    lines += ["", f"{'idx':>3} {'type':<15} {'inputs':<20} {'outputs':<20}", "=" * 74]
    for number, op in enumerate(graph.ops):
        read = ",".join(str(numbers[v]) for v in op.inputs_present if not v.is_constant)
        made = ",".join(str(numbers[v]) for v in op.results)
        lines.append(f"{number:>3} {_name(op):<15} {read:<20} {made:<20}")
    return [*lines, ""]


def _name(op: Op) -> str:
    return NAMES.get(op.tflite_name, "unknown")


def _wiring(op: Op, numbers: dict[Value, int]) -> str:
    read = "".join(f" {numbers[v]}({_letters(v)})" for v in op.inputs_present)
    made = "".join(f" {numbers[v]}({_letters(v)})" for v in op.results)
    return f"in:{read} out:{made}" + (_convolution(op) if "CONV_2D" in op.tflite_name else "")


def _letters(value: Value) -> str:
    return _LETTERS.get(value.type.dtype, "??")


def _convolution(op: Op) -> str:
    activation = getattr(op, "activation", Activation.NONE)
    fused = "" if activation is Activation.NONE else _ACTIVATIONS.get(activation, " unknown")
    y, x = getattr(op, "dilation", (1, 1))
    return fused + (f" dil: {x}x{y}" if max(x, y) > 1 else "")
