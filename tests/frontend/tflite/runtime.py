"""LiteRT beside a graph that was read: the whole file there, or what stays opaque alone."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir import Array, Graph, Op, Value
from teflon.ir.held import HELD_TYPE, is_held
from teflon.ir.lower import STANDARD
from teflon.ir.ops import Opaque
from teflon.ir.passes import run_pipeline
from tests.oracle import in_reference_kernels

_NOTHING = np.empty(0, HELD_TYPE.dtype.numpy)
"""What stands here for a state that LiteRT holds."""


def interpreter(content: bytes, shapes: Mapping[int, Sequence[int]] | None = None) -> Any:
    """Return LiteRT's reference kernels with a model, ready to run.

    Raises ValueError, RuntimeError for what LiteRT refuses.
    """
    litert = importlib.import_module("ai_edge_litert.interpreter")
    opened = in_reference_kernels(
        litert.OpResolverType,
        lambda kinds: litert.Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=kinds
        ),
    )
    for number, shape in (shapes or {}).items():
        opened.resize_tensor_input(number, list(shape))
    opened.allocate_tensors()
    return opened


def invoke(opened: Any, inputs: Mapping[int, Array], outputs: Sequence[int]) -> list[Array]:
    """Run a model once; tensors by number."""
    for number, array in inputs.items():
        opened.set_tensor(number, array)
    opened.invoke()
    return [np.array(opened.get_tensor(number)) for number in outputs]


class Mixed:
    """A graph as it will run: what the reference cannot compute in LiteRT, cut out of the file.

    It keeps the graph's states from one call to the next.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = run_pipeline(graph.verify(), STANDARD)
        self.states = [np.array(state.initial) for state in graph.states]
        self._parts: dict[Op, tuple[Any, Graph, Any]] = {}

    def __call__(self, *inputs: Array) -> list[Array]:
        """Return the outputs that users see."""
        graph, count = self.graph, len(self.states)
        values: dict[Value, Any] = dict(zip(graph.inputs, [*inputs, *self.states], strict=True))
        for op in graph.ops:
            values.update(self._run(op, values))
        found = [np.asarray(values.get(v, v.data)) for v in graph.outputs]
        self.states = found[len(found) - count :]
        return found[: len(found) - count]

    def _run(self, op: Op, values: Mapping[Value, Any]) -> dict[Value, Any]:
        if not isinstance(op, Opaque) and op not in self._parts:
            operands = [None if v is None else values.get(v, v.data) for v in op.operands]
            with contextlib.suppress(UnsupportedOperation):
                return dict(zip(op.results, op.evaluate(*operands), strict=True))
        if op not in self._parts:
            self._parts[op] = self._cut(op)
        opened, part, cut = self._parts[op]
        pairs = zip(cut.inputs, part.inputs, strict=True)
        given = {n: values[v] for n, v in pairs if not is_held(v)}
        made = {v: n for v, n in zip(part.outputs, cut.outputs, strict=True) if not is_held(v)}
        found = dict(zip(made, invoke(opened, given, list(made.values())), strict=True))
        return {v: found.get(v, _NOTHING) for v in part.outputs}

    def _cut(self, op: Op) -> tuple[Any, Graph, Any]:
        part = self.graph.subgraph([op])
        assert part.origin is not None
        cut = part.origin.cut(part)
        return interpreter(cut.content), part, cut


def random_inputs(graph: Graph, rng: np.random.Generator) -> list[Array]:
    """Return arrays for the inputs that users see: small numbers, all 8-bit values."""
    return [_random(v, rng) for v in graph.inputs[: len(graph.inputs) - len(graph.states)]]


def _random(value: Value, rng: np.random.Generator) -> Array:
    dtype = value.type.dtype.numpy
    if dtype.kind == "f":
        return rng.standard_normal(value.shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, value.shape).astype(dtype)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.itemsize == 1 else (0, 100)
    return rng.integers(low, high, value.shape, endpoint=True).astype(dtype)
