"""The Python part of `libteflon.so`: chooses the nodes for a device, and runs them.

`native/delegate.c` calls `Delegate` and `Partition` with tables of the runtime's tensors and nodes
(see `rows`). A mistake of the user raises a TeflonError, and the runtime shows its text.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from teflon import debug, forks
from teflon.compile.cache import cache_and_options
from teflon.compile.partition import NOWHERE, Plan
from teflon.compile.planning import compile_plan, plan_model
from teflon.devices import AUTO, open_device
from teflon.errors import DriverUnavailable, OptionError, TeflonError
from teflon.frontend.delegate.rows import (
    Node,
    NodeRow,
    Reader,
    TensorRow,
    decode_node,
    whole_graph,
)
from teflon.frontend.tflite.listing import listing
from teflon.inspect import verbose
from teflon.ir import Array, Graph
from teflon.pipe import Context, Device
from teflon.plugins import discover
from teflon.run.load import warn
from teflon.run.model import Model

Shape = tuple[int, ...]
Rows = Iterable[tuple[Any, ...]]

OWN_OPTIONS = {
    "device": "the device: auto, a driver, a node, sim:CHIP, cpu",
    "cache": "a folder for compiled programs, or off",
    "debug": "flags as in TEFLON_DEBUG, separated by commas; they hold for the whole process",
}
"""Options of the delegate itself; all others are the driver's."""


def error_text(error: BaseException) -> str:
    """Return the line that the runtime shows for an error."""
    if debug.enabled("traceback"):
        debug.log("".join(traceback.format_exception(error)))
    if isinstance(error, TeflonError | OSError | MemoryError):
        return f"teflon: {' '.join(str(error).split()) or 'not enough memory'}"
    return (
        f"teflon: internal error, {type(error).__name__}: {error}"
        " (TEFLON_DEBUG=traceback shows where; please report it)"
    )


class Delegate:
    """An opened device that runs nodes for one or several TFLite interpreters."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Open the device. Raises what `open_device` raises; OptionError lists all options."""
        discover()  # drivers add flags
        given = dict(options)
        _set_flags(given.pop("debug", ""))
        spec = given.pop("device", AUTO)
        self.cache, rest = cache_and_options(given)
        try:
            device, context = open_device(spec, rest)
        except OptionError as error:
            own = "; ".join(f"{name} ({text})" for name, text in OWN_OPTIONS.items())
            raise OptionError(f"{error}; options of the delegate itself: {own}") from error
        if context is None:
            raise DriverUnavailable(
                f"device {spec}: is the description of a chip and can only compile;"
                f" to run the model, name sim:{spec} or a real device"
            )
        self.device: Device = device
        self.context: Context = context
        self._lock = forks.lock()
        self._users = 1  # the delegate itself; each partition adds one
        verbose.show_driver(device.driver)

    def choose(self, tensors: Rows, nodes: Rows) -> list[int]:
        """Return the numbers of the nodes that the device can run, of all nodes of a model."""
        rows = {number: TensorRow(*row) for number, row in enumerate(tensors)}
        found = [decode_node(NodeRow(*row)) for row in nodes]
        reader = Reader(rows, {})
        graph = _with_listing(whole_graph(reader, found), rows, found)
        plan = plan_model(graph, self.device)
        verbose.show_support(plan)
        return taken_nodes(plan)

    def partition(
        self,
        tensors: Rows,
        nodes: Rows,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> Partition:
        """Return the kernel for some nodes; `inputs` and `outputs` are its non-constant tensors."""
        rows = {number: TensorRow(*row) for number, row in enumerate(tensors)}
        found = [decode_node(NodeRow(*row)) for row in nodes]
        made = Partition(self, rows, found, tuple(inputs), tuple(outputs))
        with self._lock:
            self._users += 1
        return made

    def close(self) -> None:
        """Close the device, or let the last partition that uses it close it."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.context.close()


class Partition:
    """Some nodes of one interpreter, compiled for the current shapes of its tensors."""

    def __init__(
        self,
        delegate: Delegate,
        rows: Mapping[int, TensorRow],
        nodes: Sequence[Node],
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        self._delegate = delegate
        used = {n for node in nodes for n in (*node.row.inputs, *node.row.outputs) if n >= 0}
        wanted = rows if verbose.enabled() else used | set(inputs)
        self._rows = {n: rows[n] for n in sorted(wanted)}
        self._nodes, self._inputs, self._outputs = nodes, inputs, outputs
        self._shapes: tuple[Shape, ...] | None = None
        self._model: Model | None = None
        self._closed = False

    def prepare(self, shapes: tuple[Shape, ...]) -> list[Shape]:
        """Compile for these shapes of the inputs if they are new, and return the outputs' shapes.

        Raises UnsupportedOperation if no device can run an operation in these shapes.
        """
        if self._model is None or shapes != self._shapes:
            model = self._compile(shapes)
            if self._model is not None:
                self._model.close()
            self._model, self._shapes = model, shapes
        return [info.shape for info in self._model.outputs]

    def invoke(self, inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> None:
        """Run an inference: read the runtime's input tensors and write its output tensors."""
        model = self._model
        if model is None:
            raise OptionError("teflon: the tensors are not allocated, must be allocated first")
        pairs = zip(inputs, model.inputs, strict=True)
        arrays = [np.frombuffer(v, i.dtype).reshape(i.shape) for v, i in pairs]
        for view, result in zip(outputs, model.run(*arrays), strict=True):
            _store(view, result)

    def close(self) -> None:
        """Free the compiled model; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._model is not None:
            self._model.close()
        self._delegate.close()

    def _compile(self, shapes: tuple[Shape, ...]) -> Model:
        delegate = self._delegate
        now = dict(zip(self._inputs, shapes, strict=True))
        changed = any(self._rows[n].dims != shape for n, shape in now.items())
        reader = Reader(self._rows, now)
        graph = reader.graph(self._nodes, self._inputs, self._outputs, flexible=changed)
        graph = _with_listing(graph, self._rows, self._nodes)
        plan = plan_model(graph, delegate.device)
        artefact = compile_plan(plan, delegate.cache, verbose)
        warn(artefact)
        return Model(artefact, delegate.context, owned=False)


def taken_nodes(plan: Plan) -> list[int]:
    """Return the numbers of the nodes that the first device of a plan runs, in order.

    A node that a pass folded belongs to the first device if one of the nodes whose results it reads
    does, or if all nodes that read its results do.
    """
    placed: dict[int, bool] = {}
    for op, placement in plan.placements.items():
        first = placement.device == 0 and placement.device != NOWHERE
        placed[op.index] = placed.get(op.index, True) and first
    placed.pop(-1, None)
    makers, readers = _neighbours(plan)
    waiting = {op.index for op in plan.folded if op.index >= 0} - placed.keys()
    while True:
        joined = {
            node
            for node in waiting
            if any(placed.get(n, False) for n in makers.get(node, ()))
            or (readers.get(node) and all(placed.get(n, False) for n in readers[node]))
        }
        if not joined:
            return sorted(number for number, first in placed.items() if first)
        placed |= dict.fromkeys(joined, True)
        waiting -= joined


def _neighbours(plan: Plan) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Return for each node the nodes whose results it reads, and those that read its results.

    Nodes are connected by the numbers of their tensors.
    """
    made: dict[int, int] = {}
    every = [*plan.placements, *plan.folded]
    for op in every:
        made |= {v.index: op.index for v in op.results if v.index >= 0}
    makers: dict[int, set[int]] = {}
    readers: dict[int, set[int]] = {}
    for op in every:
        for value in op.inputs_present:
            maker = made.get(value.index, -1)
            if maker not in (-1, op.index):
                makers.setdefault(op.index, set()).add(maker)
                readers.setdefault(maker, set()).add(op.index)
    return makers, readers


def _with_listing(graph: Graph, rows: Mapping[int, TensorRow], nodes: Sequence[Node]) -> Graph:
    """Return the graph, with a listing in the runtime's numbers if Mesa's tables are printed."""
    if not verbose.enabled():
        return graph
    reader = Reader(rows, {})
    tensors = [reader.values[n] for n in range(len(rows))]
    return replace(graph, listing=listing(tensors, [reader.view(node) for node in nodes]))


def _store(view: memoryview, result: Array) -> None:
    target = np.frombuffer(view, result.dtype)
    if target.size != result.size:
        raise OptionError(f"teflon: an output has {result.nbytes} bytes, must have {view.nbytes}")
    np.copyto(target, result.reshape(-1))


def _set_flags(text: str) -> None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in debug.FLAGS]
    if unknown:
        raise OptionError(
            f"option debug: is {unknown[0]!r}, must be one of {', '.join(debug.FLAGS)}"
        )
    if names:
        debug.enable(text)
