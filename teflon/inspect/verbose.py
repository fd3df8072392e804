"""The tables of Mesa's Teflon, in its columns, printed when TEFLON_DEBUG contains `verbose`.

Callers use the functions in Mesa's order: `show_driver`, `show_support`, then for each partition
`show_compiling` and `show_compile_time`, then for each inference and partition `show_invoke_time`.
They print nothing unless the flag is set.
"""

# Ref: Mesa 26.2.6, src/gallium/frontends/teflon/tfl_device.c (titles, widths, names)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from teflon import debug
from teflon.compile.partition import Partition, Plan
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.listing import ListedNode, ListedTensor, Listing
from teflon.ir.types import Activation, DType, TensorType

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
"""TFLite's name of an operation -> its name in the support table."""
COMPILED_NAMES = NAMES | {"AVERAGE_POOL_2D": "POOL", "MAX_POOL_2D": "POOL",
                          "FULLY_CONNECTED": "FCON"}  # fmt: skip
"""TFLite's name of an operation -> its name in the table of a partition."""
_LETTERS = {
    DType.FLOAT32: "f32", DType.UINT16: "u16", DType.INT16: "i16", DType.UINT32: "u32",
    DType.INT32: "i32", DType.UINT8: "u8", DType.INT8: "i8",
}  # fmt: skip
_NOTHING = TensorType(DType.OTHER, ())
_ACTIVATIONS = {Activation.NONE: "", Activation.RELU: " ReLU", Activation.RELU6: " ReLU6"}


def enabled() -> bool:
    """Whether the tables are printed; only then do frontends need to make a listing."""
    return debug.enabled("verbose")


def show_driver(driver: str) -> None:
    """Print the name of the driver that was opened."""
    if enabled():
        debug.log(f"Teflon delegate: loaded {driver} driver")


def show_support(plan: Plan) -> None:
    """Print the support table of a plan: all nodes, and whether the first device runs them.

    An operation that a pass moved into another one counts as supported.
    """
    if not enabled():
        return
    if plan.listing is None:
        listing, placements = _listing(plan), plan.placements.values()
        supported = {n for n, p in enumerate(placements) if p.device == 0}
    else:
        listing = plan.listing
        elsewhere = {op.index for op, p in plan.placements.items() if p.device != 0}
        supported = {n.number for n in listing.nodes} - elsewhere
    debug.log("\n".join(support_table(listing, supported)))


def show_compiling(plan: Plan, part: Partition) -> None:
    """Print the tables of a partition of the first device: all tensors, its operations."""
    if not enabled() or part.device != 0:
        return
    listing, numbers = _listing(plan), tensor_numbers(plan.graph, plan.listing)
    by_number = {node.number: node for node in plan.listing.nodes} if plan.listing else {}
    nodes = []
    for op in part.graph.ops:
        node = _node(op, numbers)
        in_file = by_number.get(node.number, node)
        nodes.append(in_file if in_file.outputs == node.outputs else node)
    debug.log("\n".join(partition_tables(listing, nodes)))


def show_compile_time(seconds: float) -> None:
    """Print how long compiling a partition took."""
    if enabled():
        debug.log(f"teflon: compiled graph, took {int(seconds * 1e3)} ms")


def show_invoke_time(seconds: float) -> None:
    """Print how long running a partition took."""
    if enabled():
        debug.log(f"teflon: invoked graph, took {int(seconds * 1e3)} ms")


# Tables ---------------------------------------------------------------------------------------


def support_table(listing: Listing, supported: Collection[int]) -> list[str]:
    """Return the lines of the support table; `v-` stands for an unknown version."""
    lines = [f"{'idx':>3} {'type':<15} {'ver':>3} {'support':<11} inputs", "=" * 96]
    for node in listing.nodes:
        word = "supported" if node.number in supported else "unsupported"
        read = "".join(f" {_tensor(n, listing)}" for n in node.inputs)
        made = "".join(f" {_tensor(n, listing)}" for n in node.outputs)
        lines.append(
            f"{node.number:>3} {_name(node.name):<15} v{node.version or '-':<2} {word:<11}"
            f" in:{read} out:{made}{_convolution(node)}"
        )
    return lines


def partition_tables(listing: Listing, nodes: Sequence[ListedNode]) -> list[str]:
    """Return the lines of a partition's tables, with a blank line before and after them."""
    lines = [
        "", f"teflon: compiling graph: {len(listing.tensors)} tensors {len(nodes)} operations",
        f"{'idx':>3} {'scale':<8} {'zp':>3} has_data {'size':<12}", "=" * 39,
    ]  # fmt: skip
    for number, tensor in enumerate(listing.tensors):
        type_ = tensor.type
        scale = type_.scale if type_.quantization else 0.0
        shape = "x".join(map(str, (1,) * (4 - type_.rank) + type_.shape))
        lines.append(
            f"{number:>3} {scale:<8.6f} {type_.zero_point & 0xFFFFFFFF:>3x}"
            f" {'yes' if tensor.is_constant else 'no':<8} {shape}"
        )
    lines += ["", f"{'idx':>3} {'type':<15} {'inputs':<20} {'outputs':<20}", "=" * 74]
    for number, node in enumerate(nodes):
        read, made = (",".join(map(str, numbers)) for numbers in (node.inputs, node.outputs))
        lines.append(f"{number:>3} {_name(node.name, COMPILED_NAMES):<15} {read:<20} {made:<20}")
    return [*lines, ""]


def _name(name: str, known: Mapping[str, str] = NAMES) -> str:
    return known.get(name, "unknown")


def _tensor(number: int, listing: Listing) -> str:
    if number < 0:
        return f"{number}(no)"
    return f"{number}({_LETTERS.get(listing.tensors[number].type.dtype, '??')})"


def _convolution(node: ListedNode) -> str:
    if node.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return ""
    y, x = node.dilation
    fused = _ACTIVATIONS.get(node.activation, " unknown")
    return fused + (f" dil: {x}x{y}" if max(x, y) > 1 else "")


# Listings -------------------------------------------------------------------------------------


def tensor_numbers(graph: Graph, listing: Listing | None = None) -> dict[Value, int]:
    """Return the number of each tensor: that of the file, else the next free one."""
    taken = {v.index for v in graph.values} | set(range(len(listing.tensors) if listing else 0))
    free = (n for n in range(len(taken) + len(graph.values) + 1) if n not in taken)
    return {v: v.index if v.index >= 0 else next(free) for v in graph.values}


def _listing(plan: Plan) -> Listing:
    """Return the file's listing with the tensors that passes added; without a file, one of the
    graph.
    """
    numbers = tensor_numbers(plan.graph, plan.listing)
    found = dict(enumerate(plan.listing.tensors)) if plan.listing else {}
    for value, number in numbers.items():
        found.setdefault(number, ListedTensor(value.type, value.is_constant))
    count = max(found, default=-1) + 1
    absent = ListedTensor(_NOTHING, False)
    tensors = tuple(found.get(n, absent) for n in range(count))
    if plan.listing is not None:
        return Listing(tensors, plan.listing.nodes)
    nodes = [_node(op, numbers, place) for place, op in enumerate(plan.graph.ops)]
    return Listing(tensors, tuple(nodes))


def _node(op: Op, numbers: Mapping[Value, int], number: int | None = None) -> ListedNode:
    return ListedNode(
        op.index if number is None else number,
        op.tflite_name,
        getattr(op, "version", 0),
        tuple(-1 if v is None else numbers[v] for v in op.operands),
        tuple(numbers[v] for v in op.results),
        getattr(op, "activation", Activation.NONE),
        getattr(op, "dilation", (1, 1)),
    )
