"""Compare the bytes of coefficients: ours, Mesa's, and the entropy of the coded values.

python benchmarks/compression.py [--device a311d] [--models ...]

The benchmark compiles each operation alone, with both strategies. An operation that one strategy
does not take counts in neither sum. The bound is the entropy of the operation's weights, taken as
independent values. No code of single values is smaller; a code of runs or contexts may be.
The table has the sums. The JSON file with `_layers` in its name has a row for each operation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common import Row, arguments, at_hand, description, keep, show
from teflon.compile.source import read_graph
from teflon.ir.graph import Graph, Op
from teflon.pipe import Device
from teflon_etnaviv.device import EtnavivDevice

FAMILY = "etnaviv"


@dataclass(frozen=True)
class Layer:
    """The coefficient bytes of one operation; `bound` is the entropy of weights and biases."""

    title: str
    weights: int
    ours: int
    mesas: int
    bound: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    if device.driver != FAMILY:
        print(f"compression: {device.chip} has no compressed coefficients, nothing to measure")
        return 0
    found = [(name, read_graph(path)) for name, path in at_hand(options.models)]
    tables = {name: list(layers(graph, device.chip)) for name, graph in found}
    each = [{"model": name, **_row(r)} for name, rows in tables.items() for r in rows]
    keep("Coefficients by layer", each, options, "compression_layers")
    totals = [{"model": name, **_total(rows)} for name, rows in tables.items() if rows]
    show("Coefficients: bytes in all layers", totals, options, "compression")
    return 0


def layers(graph: Graph, chip: str) -> Iterator[Layer]:
    """Yield a row for every operation that has coefficients with both strategies."""
    ours, mesas = (EtnavivDevice(chip, {"strategy": name}) for name in ("exact", "mesa"))
    for op in graph.ops:
        if ours.unsupported(op, graph) or mesas.unsupported(op, graph):
            continue
        part = graph.subgraph([op])
        mine, theirs = _bytes(ours, part), _bytes(mesas, part)
        if mine and theirs:
            weights = getattr(op, "weights", None)
            size = 0 if weights is None else weights.type.size
            yield Layer(op.title, size, mine, theirs, entropy_bytes(op))


def _bytes(device: Device, graph: Graph) -> int:
    return device.compile(graph).statistics.get("coefficient_bytes", 0)


def entropy_bytes(op: Op) -> int:
    """Return the entropy of an operation's weights in bytes, plus four bytes for each bias."""
    weights, bias = getattr(op, "weights", None), getattr(op, "bias", None)
    if weights is None or weights.data is None:
        return 0
    counts = np.bincount(np.ascontiguousarray(weights.data).view(np.uint8).reshape(-1))
    share = counts[counts > 0] / counts.sum()
    bits = -float((share * np.log2(share)).sum()) * float(counts.sum())
    return int(bits / 8) + (0 if bias is None else 4 * bias.type.size)


def _row(layer: Layer) -> Row:
    return {
        "layer": layer.title,
        "weights B": layer.weights,
        "ours B": layer.ours,
        "Mesa B": layer.mesas,
        "ours / Mesa": f"{layer.ours / layer.mesas:.3f}",
        "bound B": layer.bound,
        "ours / bound": f"{layer.ours / layer.bound:.2f}" if layer.bound else "",
    }


def _total(rows: Sequence[Layer]) -> Mapping[str, object]:
    whole = Layer(
        "all",
        sum(r.weights for r in rows),
        sum(r.ours for r in rows),
        sum(r.mesas for r in rows),
        sum(r.bound for r in rows),
    )
    larger = sum(r.ours > r.mesas for r in rows)
    return {"layers": len(rows), **{k: v for k, v in _row(whole).items() if k != "layer"},
            "layers above Mesa's": larger}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
