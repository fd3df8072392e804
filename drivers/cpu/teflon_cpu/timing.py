"""Estimate how long a CPU takes for what an NPU leaves to it: roughly, not calibrated.

Ref: none measured. One core of an Arm board with TFLite-like kernels is assumed to do four 8-bit
multiply-accumulates and one byte of other work per nanosecond, and to need five microseconds per
operation. The benchmarks compare whole inferences, in which this part is small.
"""

from __future__ import annotations

from teflon.ir.graph import Graph, Op
from teflon.pipe import HOST, Cost

MACS_PER_MS = 4e6
BYTES_PER_MS = 1e6
OPERATION_MS = 0.005


def costs(graph: Graph) -> list[Cost]:
    """Return one cost for each operation."""
    return [_cost(op) for op in graph.ops]


def _cost(op: Op) -> Cost:
    read = [v.type.size_bytes for v in op.inputs_present]
    written = sum(v.type.size_bytes for v in op.results)
    moved = sum(read) + written
    constant = sum(v.type.size_bytes for v in op.inputs_present if v.is_constant)
    work = op.macs / MACS_PER_MS + moved / BYTES_PER_MS
    return Cost(
        name=op.where,
        engine="cpu",
        milliseconds={HOST: work + OPERATION_MS},
        macs=op.macs,
        dram_read=sum(read),
        dram_written=written,
        coefficient_bytes=constant,
    )
