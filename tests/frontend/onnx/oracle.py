"""onnxruntime as the oracle: every tensor of a model; and our operations fed with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from teflon.ir import Graph, Op, Value, ops
from teflon.ir.quantized import quantize_real
from teflon.ir.types import Array


def session(model: onnx.ModelProto, *, optimised: bool = False) -> Any:
    """Return a session that computes node by node; optimised: with its integer kernels."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def tensors(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every tensor of the main graph by its name, as onnxruntime computes it."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    made = [name for node in whole.graph.node for name in node.output if name]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    found = dict(zip(made, session(whole).run(made, dict(inputs)), strict=True))
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    return {**constants, **inputs, **found}


def outputs(model: onnx.ModelProto, inputs: Mapping[str, Array], *, optimised: bool) -> list[Array]:
    made: list[Array] = session(model, optimised=optimised).run(None, dict(inputs))
    return made


@dataclass
class Distances:
    """How far our results are from onnxruntime's: quantised ones in steps, real ones relative."""

    steps: dict[str, int] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def worst(self) -> int:
        return max(self.steps.values(), default=0)

    def wrong(self, steps: int = 1, real: float = 1e-4) -> list[str]:
        """Return a sentence for each operation that is too far away."""
        far = [f"{name}: {d} steps" for name, d in self.steps.items() if d > steps]
        far += [f"{name}: {d:.2g} of its largest" for name, d in self.real.items() if not d <= real]
        return far + self.problems


def compare(graph: Graph, names: Mapping[int, str], theirs: Mapping[str, Array]) -> Distances:
    """Compute each operation from onnxruntime's tensors, and compare its results with those.

    What has no tensor in the file, an operation's first half, is computed on and not compared.
    """
    found = Distances()
    tensor = {v: theirs[name] for v, name in _tensors(graph, names).items() if name in theirs}
    known: dict[Value, Array] = {}
    given = [
        *graph.inputs,
        *(v for op in graph.ops if isinstance(op, ops.Opaque) for v in op.results),
    ]
    for v in given:  # they lie as in the file
        known.update((v, a) for a in _as_ours(v, tensor) if a.shape == tensor[v].shape)
    for op in graph.ops:
        if isinstance(op, ops.Opaque):
            continue
        missing = [v for v in op.inputs_present if v.data is None and v not in known]
        if missing:
            found.problems.append(f"{op.title}: nothing is known of {missing[0].name!r}")
            continue
        operands = [None if v is None else v.data if v.data is not None else known[v]
                    for v in op.operands]  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore"):  # masks are the largest number, negative
            results = op.evaluate(*operands)
        for value, ours in zip(op.results, results, strict=True):
            known[value] = _judged(found, op, value, ours, _as_ours(value, tensor))
    return found


def _tensors(graph: Graph, names: Mapping[int, str]) -> dict[Value, str]:
    """Return the tensor of the file that each value is: by number, else the last of its name."""
    found: dict[str, Value] = {}
    for value in graph.values:
        if not value.is_constant:
            found[names.get(value.index, value.name)] = value
    return {value: name for name, value in found.items()}


def _judged(found: Distances, op: Op, value: Value, ours: Array, candidates: list[Array]) -> Array:
    """Note how far one result is from the best candidate, which is what others shall read."""
    if not candidates:
        return ours
    if ours.dtype != candidates[0].dtype or ours.shape != candidates[0].shape:
        found.problems.append(
            f"{op.title}: is {ours.dtype}{list(ours.shape)}, must be"
            f" {candidates[0].dtype}{list(candidates[0].shape)}"
        )
        return ours
    best = min(candidates, key=lambda a: _distance(ours, a))
    name = f"{op.title} {value.name!r}"
    found.kinds[op.kind_name] = found.kinds.get(op.kind_name, 0) + 1
    if ours.dtype.kind == "f":
        found.real[name] = _distance(ours, best)
    else:
        found.steps[name] = int(_distance(ours, best))
    return best


def _distance(ours: Array, theirs: Array) -> float:
    if not ours.size:
        return 0.0
    if ours.dtype.kind != "f":
        return float(np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max())
    both = np.isnan(ours) & np.isnan(theirs) | (ours == theirs)
    apart = np.where(both, 0, np.abs(ours - theirs)).max()
    return float(apart / max(np.abs(theirs[np.isfinite(theirs)]).max(initial=0), 1e-6))


def _as_ours(value: Value, tensor: Mapping[Value, Array]) -> list[Array]:
    """Return onnxruntime's tensor in our type and layout; several where two layouts fit."""
    if value not in tensor:
        return []
    array = np.asarray(tensor[value])
    if array.dtype.kind == "f" and value.type.dtype.is_quantizable and value.type.quantization:
        array = quantize_real(array.astype(np.float32), value.type)
    if {array.dtype.char, value.type.dtype.numpy.char} == {"b", "B"}:  # int8 beside uint8
        array = (array ^ array.dtype.type(-128 if array.dtype.kind == "i" else 128)).view(
            value.type.dtype.numpy
        )
    return list(_layouts(array, value.shape))


def _layouts(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield the array in the layouts that have this shape; channels last comes first."""
    squeezed = [d for d in array.shape if d != 1]
    if array.ndim > 2:
        last = np.moveaxis(array, 1, -1)
        if last.shape == shape:
            yield np.ascontiguousarray(last)
        elif [d for d in last.shape if d != 1] == [d for d in shape if d != 1]:
            yield np.ascontiguousarray(last).reshape(shape)
    if array.shape == shape:
        yield array
    elif squeezed == [d for d in shape if d != 1]:
        yield array.reshape(shape)
