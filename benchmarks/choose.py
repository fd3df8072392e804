"""Choose models by what is in them: 8-bit ones, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from teflon.compile.source import read_graph
from teflon.errors import TeflonError
from teflon.ir import DType, Graph, Op, Value, ops

EIGHT_BIT = (DType.UINT8, DType.INT8)
MULTIPLYING = (
    ops.Conv2D, ops.DepthwiseConv2D, ops.TransposeConv, ops.FullyConnected, ops.BatchMatMul,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a file holds; `reason` says why it is no 8-bit model, "" where it is one."""

    reason: str = ""
    macs: int = 0
    operations: int = 0


def paths_of(given: Sequence[Path]) -> list[Path]:
    """Return the .tflite files of files and folders; without any, those of TEFLON_MODELS."""
    if not given:
        folders = [Path(f) for f in os.environ.get("TEFLON_MODELS", "").split(os.pathsep) if f]
        given = [place for folder in folders for place in (folder, folder / "public")]
    found = (sorted(place.glob("*.tflite")) if place.is_dir() else [place] for place in given)
    return list(dict.fromkeys(path for paths in found for path in paths))


def kind_of(path: Path) -> Kind:
    """Return what a file holds."""
    try:
        graph = read_graph(path)
    except TeflonError as error:
        return Kind(reason=f"not read: {_last(str(error))}")
    return Kind(reason(graph), sum(op.macs for op in graph.ops), len(graph.ops))


def known(graph: Graph) -> Graph:
    """Return a graph without the operations that the IR does not have: their results are inputs.

    Outputs that nothing else makes are left out; what nothing reads is no input.
    """
    kept = [op for op in graph.ops if not isinstance(op, ops.Opaque)]
    if len(kept) == len(graph.ops):
        return graph
    made = {v for op in kept for v in op.results}
    read = dict.fromkeys(v for op in kept for v in op.inputs_present if not v.is_constant)
    return Graph(
        graph.name,
        tuple(v for v in read if v not in made),
        tuple(v for v in graph.outputs if v in made) or kept[-1].results,
        tuple(kept),
    )


def _last(text: str) -> str:
    return text.partition(": ")[2][:90] or text[:90]


def reason(graph: Graph) -> str:
    """Return why a graph is no 8-bit model; "" where it is one."""
    if foreign := _foreign(graph):
        return foreign
    multiplying = [op for op in graph.ops if isinstance(op, MULTIPLYING)]
    if not multiplying:
        types = _types(graph.ops)
        eight = bool(types) and types <= set(EIGHT_BIT)
        return "" if eight else f"multiplies nothing ({_listed(types)})"
    if not any(_input(op).type.dtype in EIGHT_BIT for op in multiplying):
        return f"multiplies {_listed({_input(op).type.dtype for op in multiplying})}"
    return ""


def _foreign(graph: Graph) -> str:
    """Return which custom operator does the work of a file that has no other that multiplies."""
    custom = [op for op in graph.ops if isinstance(op, ops.Opaque) and op.options_type == "CUSTOM"]
    if custom and not any(isinstance(op, MULTIPLYING) for op in graph.ops):
        return f"custom operator {custom[0].kind}"
    return ""


def _types(found: Sequence[Op]) -> set[DType]:
    """Return the element types of what operations read of computed tensors."""
    return {v.type.dtype for op in found for v in op.inputs_present if not v.is_constant}


def _listed(types: set[DType]) -> str:
    return ", ".join(sorted(dtype.value for dtype in types))


def _input(op: Op) -> Value:
    """Return the operand that is computed, the first one where none is."""
    read = op.inputs_present
    return next((v for v in read if not v.is_constant), read[0])
