"""TEFLON_DEBUG=etnaviv-jobs: what lowering made of a partition, in the form of Mesa's ml_msgs."""

from __future__ import annotations

from collections.abc import Sequence

from teflon.debug import enabled, log
from teflon_etnaviv.operations import Lowered
from teflon_etnaviv.tensors import Tensor

# Ref: docs/hardware/etnaviv.md section 9 (ETNA_MESA_DEBUG=ml_msgs: title, columns)


def show(lowered: Lowered) -> None:
    """Log a partition's operations, if that is wanted."""
    if enabled("etnaviv-jobs"):
        log(text(lowered))


def text(lowered: Lowered) -> str:
    """Return a line for each operation, and one for each of their tensors; numbers are ours."""
    operations = lowered.operations
    mentioned = [*lowered.inputs, *(t for op in operations for t in (*op.inputs, *op.outputs))]
    numbers = {tensor: n for n, tensor in enumerate(dict.fromkeys(mentioned))}
    lines = [
        f"dumping intermediate graph: {len(operations)} operations",
        f"{'idx':>3} {'type':<6} {'in':<12} {'out':<12} operation",
        "=" * 96,
    ]
    for number, op in enumerate(operations):
        detail = f" ({op.detail})" if op.detail else ""
        lines.append(
            f"{number:>3} {op.unit:<6} {_listed(op.inputs, numbers):<12}"
            f" {_listed(op.outputs, numbers):<12} {op.name}{detail}"
        )
    lines += [f"{n:>3} {_shown(tensor)}" for tensor, n in numbers.items()]
    return "\n".join(lines)


def _listed(tensors: Sequence[Tensor], numbers: dict[Tensor, int]) -> str:
    return ",".join(str(numbers[tensor]) for tensor in tensors)


def _shown(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape))
    sign = "i8" if tensor.signed else "u8"
    return f"{sign} {shape} {float(tensor.scale):.6f} {tensor.zero_point:x} {tensor.name}"
