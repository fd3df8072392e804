"""Finding the layer that is wrong: compares each operation of a device with the reference.

The partitions run as usual, but the tensors between their operations are outputs too, except those
that a driver removes by fusing operations. The reference then computes each operation again from
the device's own inputs. So the difference is the error of this operation alone. `drift` is the
difference from a run of the whole model on the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from teflon.compile.chain import host_cache_options, open_fallback
from teflon.compile.partition import Partition, Plan, plan_notes, refuse_unplaced
from teflon.compile.planning import plan_model
from teflon.devices import CPU, open_device
from teflon.errors import OptionError
from teflon.ir import interpreter
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Abs, Add, Relu, Relu6, ReluN1To1, Sub
from teflon.ir.types import Array
from teflon.pipe import Context, Executable, Program

_ABSORBERS = (Add, Sub, Relu, Relu6, ReluN1To1, Abs)
"""Operations into which drivers may fuse the producer of an operand that nothing else reads."""


@dataclass(frozen=True)
class Layer:
    """The comparison of one tensor of the device with the reference.

    Differences are in quantisation steps; for float32 in steps to the next float32. `ops` are the
    operations since the last compared tensors: one, or several if the device may have fused them.
    """

    ops: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    steps: int  # largest difference on equal input
    share: float  # share of the elements that differ on equal input
    drift: int  # largest difference from a run of the whole model on the reference


@dataclass(frozen=True)
class Comparison:
    """All layers that a device ran, in order."""

    device: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()  # what the device says about how it computes the partitions

    @property
    def worst(self) -> int:
        """The largest difference on equal input, in steps."""
        return max((layer.steps for layer in self.layers), default=0)

    @property
    def exact(self) -> int:
        """The number of layers that are equal to the reference."""
        return sum(not layer.steps for layer in self.layers)


def compare(
    graph: Graph, inputs: Sequence[Array], device: str = "auto", **options: object
) -> Comparison:
    """Run a model on a device and compare each layer with the reference.

    Raises OptionError for a chip's description, UnsupportedOperation if no device can run an
    operation, and what `teflon.load` raises.
    """
    spec, host, _, rest = host_cache_options(options, device)
    chip, context = open_device(spec, rest)
    with ExitStack() as stack:
        if context is None:
            raise OptionError(
                f"device {device}: is the description of a chip, must be a device that can run"
            )
        stack.enter_context(context)
        plan = plan_model(graph, chip, host=host)
        return compare_plan(plan, context, inputs, chip.driver == CPU)


def compare_plan(
    plan: Plan,
    context: Context,
    inputs: Sequence[Array],
    trusted: bool = False,
    programs: Sequence[Program] = (),
) -> Comparison:
    """Run a plan on an opened device and compare each layer with the reference.

    `programs` are the programs of the plan's partitions, if the caller has them. Partitions with
    inner tensors are compiled again, because these tensors must become outputs. `trusted`: the
    device is the reference itself, so nothing is compared. Operations that only another runtime
    knows are their own reference. States have their initial content.

    Raises UnsupportedOperation if no device runs an operation, and what compiling and running on
    the device raise.
    """
    refuse_unplaced(plan)
    given = dict(zip(plan.graph.inputs, plan.graph.with_initial(inputs), strict=True))
    mine, wanted, layers = dict(given), dict(given), list[Layer]()
    with Reference(plan, context) as reference:
        for part in plan.partitions:
            wanted |= reference.every_tensor(part, wanted)
            if part.device != 0 or trusted:
                mine |= reference.every_tensor(part, mine)
                continue
            absorbed = context.device.absorbed(part.graph)
            wide = _with_inner_outputs(part.graph, absorbed)
            made = programs[part.index] if programs and wide is part.graph else None
            _run(context, wide, made or context.device.compile(wide), mine)
            layers += _layers(wide, mine, wanted)
    notes = () if trusted else tuple(plan_notes(plan, context.device))
    return Comparison(plan.devices[0], tuple(layers), notes)


class Reference(ExitStack):
    """Computes partitions as TFLite's reference kernels do, on whatever device they are.

    Partitions with operations that the IR has no kernel for are run by their own runtime.
    """

    def __init__(self, plan: Plan, context: Context) -> None:
        super().__init__()
        self._plan = plan
        self._contexts = {0: context}
        self._loaded: dict[int, Executable] = {}

    def every_tensor(self, part: Partition, values: Mapping[Value, Array]) -> dict[Value, Array]:
        """Return all tensors that a partition makes; of another runtime's only the outputs."""
        arrays = [values[v] for v in part.graph.inputs]
        if not any(op.refusal for op in part.graph.ops):
            return every_tensor(part.graph, arrays)
        context = self._context(part.device)
        if part.index not in self._loaded:
            program = context.device.compile(part.graph)
            self._loaded[part.index] = context.load(program)
            self.callback(self._loaded[part.index].close)
        results = context.invoke(self._loaded[part.index], arrays)
        return dict(zip(part.graph.outputs, results, strict=True))

    def _context(self, number: int) -> Context:
        if number not in self._contexts:
            opened = open_fallback(self._plan.chain[number], self._plan.host)
            self._contexts[number] = self.enter_context(opened)
        return self._contexts[number]


def every_tensor(graph: Graph, inputs: Sequence[Array]) -> dict[Value, Array]:
    """Run a graph on the reference and return every tensor."""
    seen: dict[Value, Array] = {}

    def keep(op: Op, _: Sequence[Array | None], results: Sequence[Array]) -> None:
        seen.update(zip(op.results, results, strict=True))

    interpreter.run(graph, inputs, keep)
    return seen


def _with_inner_outputs(graph: Graph, absorbed: Collection[Value] | None = None) -> Graph:
    """Return a partition with all its tensors as outputs, except those that fusing removes.

    absorbed: these, or None where the driver does not say: it may remove the first computed operand
    of an operation, if nothing else reads it.
    """
    made = [v for op in graph.ops for v in op.results]
    gone = [v for v in made if _may_vanish(graph, v)] if absorbed is None else absorbed
    made = [v for v in made if v not in gone]
    if made == list(graph.outputs):
        return graph
    return dataclasses.replace(graph, outputs=tuple(made), output_names=())


def _may_vanish(graph: Graph, value: Value) -> bool:
    users = graph.users(value)
    if graph.is_output(value) or len(users) != 1 or not isinstance(users[0], _ABSORBERS):
        return False
    made = [v for v in users[0].inputs_present if graph.producer(v) is not None]
    return made[0] is value and made.count(value) == 1


def _run(context: Context, graph: Graph, program: Program, values: dict[Value, Array]) -> None:
    executable = context.load(program)
    try:
        results = context.invoke(executable, [values[v] for v in graph.inputs])
    finally:
        executable.close()
    values.update(zip(graph.outputs, results, strict=True))


def _layers(
    graph: Graph, mine: Mapping[Value, Array], reference: Mapping[Value, Array]
) -> Iterator[Layer]:
    """Yield the comparison of each output that the reference can compute alone."""
    for value in graph.outputs:
        ops = _between(graph, value, mine)
        if value in reference and not any(op.refusal for op in ops):
            yield _layer(graph, value, ops, mine, reference)


def _layer(
    graph: Graph,
    value: Value,
    ops: Sequence[Op],
    mine: Mapping[Value, Array],
    reference: Mapping[Value, Array],
) -> Layer:
    alone = graph.subgraph(ops)
    alone = dataclasses.replace(alone, outputs=(value,), output_names=())
    (wanted,) = interpreter.run(alone, [mine[v] for v in alone.inputs])
    steps = _difference(mine[value], wanted)
    return Layer(
        ops=tuple(op.title for op in ops),
        output=value.name,
        shape=value.shape,
        steps=int(steps.max(initial=0)),
        share=float(np.count_nonzero(steps) / max(steps.size, 1)),
        drift=int(_difference(mine[value], reference[value]).max(initial=0)),
    )


def _between(graph: Graph, value: Value, known: Iterable[Value]) -> list[Op]:
    """Return the operations, in order, that compute a value from known tensors."""
    seen, needed, todo = set(known) - {value}, set[Op](), [value]
    while todo:
        op = graph.producer(todo.pop())
        if op is not None and op not in needed:
            needed.add(op)
            todo += [v for v in op.inputs_present if v not in seen]
    return [op for op in graph.ops if op in needed]


def _difference(a: Array, b: Array) -> Array:
    return np.asarray(np.abs(_steps(a) - _steps(b)))


def _steps(array: Array) -> Array:
    """Return integers whose differences count steps; for float32 steps to the next float32."""
    if array.dtype != np.float32:
        return array.astype(np.int64)
    bits = array.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)
