"""Values, operations, graphs: immutable; a pass returns a new graph."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from teflon.errors import UnsupportedOperation, VerifyError
from teflon.ir.types import Array, DType, TensorType

if TYPE_CHECKING:
    from teflon.ir.listing import Listing


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor of a graph; compared by identity.

    `data` is set for constants only: an array of exactly the type's shape and numpy type, read
    only. `index` is the tensor's number in the file it came from, -1 if it came from none, `HELD`
    for what only the file's runtime holds (`teflon.ir.held`).
    """

    name: str
    type: TensorType
    data: Array | None = None
    index: int = -1

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """Base of all operations, compared by identity.

    A subclass is a frozen dataclass; one that adds no field inherits that, and goes without the
    decorator, which costs half a millisecond of import. Every field that holds a `Value` (or None,
    or a tuple of values) is an operand, in the order of the fields, except `output` / `outputs`,
    which are the results. All other fields are attributes: plain hashable Python values.
    """

    mnemonic: ClassVar[str] = ""  # the text form's word, e.g. "conv2d"
    tflite_name: ClassVar[str] = ""  # what the user calls it, e.g. "CONV_2D"

    location: str = ""  # the user's name for this operation, by default its first result's name
    index: int = -1  # its number in the file it came from

    @cached_property
    def operands(self) -> tuple[Value | None, ...]:
        """All operands in order; None for an optional one that is absent."""
        found: list[Value | None] = []
        for name in operand_names(type(self)):
            value = getattr(self, name)
            found.extend(value if isinstance(value, tuple) else (value,))
        return tuple(found)

    @cached_property
    def inputs_present(self) -> tuple[Value, ...]:
        """The operands that are there, constants included."""
        return tuple(v for v in self.operands if v is not None)

    @cached_property
    def results(self) -> tuple[Value, ...]:
        made = getattr(self, result_name(type(self)))
        return made if isinstance(made, tuple) else (made,)

    @property
    def kind_name(self) -> str:
        """What users call this kind of operation: `CONV_2D`."""
        return self.tflite_name or self.mnemonic

    @property
    def title(self) -> str:
        """How messages name this operation: `CONV_2D 'block3/expand'`."""
        return f"{self.kind_name} {self.where!r}"

    @property
    def where(self) -> str:
        return self.location or (self.results[0].name if self.results else self.mnemonic)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one evaluation; 0 for operations that do not multiply."""
        return 0

    def infer(self) -> tuple[TensorType, ...]:
        """Return the types the results must have; quantisation None means *as declared*.

        Raises ValueError with a reason where the operands cannot be combined.
        """
        raise NotImplementedError(type(self).__name__)

    def check(self) -> list[str]:
        """Return what is wrong with operands and attributes beyond the result types."""
        return []

    @cached_property
    def refusal(self) -> str:
        """Why `evaluate` has no kernel for the operands' types and the attributes; "" where it has.

        What operands contain does not count: a divisor of 0 is found when the operation runs.
        """
        if type(self).compute is Op.compute:
            return "there is no kernel for this operation"
        for value in (*self.inputs_present, *self.results):
            if value.type.dtype is DType.OTHER:
                return f"{value.name!r} has an element type that only the file's own runtime knows"
        return self.missing_kernel()

    def missing_kernel(self) -> str:
        """Return what `refusal` says of operands whose element types the IR has."""
        return ""

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        """Compute the results from the operands' values, bit-equal to TFLite's reference kernels.

        `operands` corresponds to `self.operands` one to one, constants included. Raises
        UnsupportedOperation with `refusal` where there is one, and for contents that have no
        result.
        """
        if self.refusal:
            raise UnsupportedOperation(self.title, [self.refusal])
        return self.compute(*operands)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        """Do what `evaluate` does, where there is no refusal."""
        raise NotImplementedError(type(self).__name__)

    def verify(self) -> list[str]:
        """Return every broken invariant of this operation as a sentence without its name."""
        try:
            expected = self.infer()
        except ValueError as error:
            return [str(error), *self.check()]
        problems = self.check()
        if len(expected) != len(self.results):
            problems.append(f"has {len(self.results)} results, must have {len(expected)}")
        for want, value in zip(expected, self.results, strict=False):
            have = value.type
            if (have.dtype, have.shape) != (want.dtype, want.shape):
                problems.append(
                    f"result {value.name!r} is {have.dtype.value}{list(have.shape)},"
                    f" must be {want.dtype.value}{list(want.shape)}"
                )
        return problems

    def rewired(self, mapping: Mapping[Value, Value]) -> Self:
        """Return this operation with operands and results replaced as the mapping says."""

        def new(item: object) -> object:
            if isinstance(item, Value):
                return mapping.get(item, item)
            return tuple(new(i) for i in item) if isinstance(item, tuple) else item

        changes: dict[str, Any] = {}
        for name in (*operand_names(type(self)), result_name(type(self))):
            old = getattr(self, name)
            if (replaced := new(old)) != old:
                changes[name] = replaced
        return dataclasses.replace(self, **changes) if changes else self


def operand_names(kind: type[Op]) -> tuple[str, ...]:
    """Return the fields of an operation's class that hold operands, in order."""
    results = ("output", "outputs")
    fields = dataclasses.fields(kind)
    return tuple(f.name for f in fields if "Value" in str(f.type) and f.name not in results)


def result_name(kind: type[Op]) -> str:
    """Return the field of an operation's class that holds its result or results."""
    names = {f.name for f in dataclasses.fields(kind)}
    return "outputs" if "outputs" in names else "output"


@dataclass(frozen=True)
class Cut:
    """A small model that was cut out of a file.

    `inputs` and `outputs` say how its runtime calls the tensor of each input and output of the
    graph: a number for TFLite, a name for ONNX; `HELD` for what the runtime holds itself.
    """

    content: bytes
    inputs: tuple[int | str, ...]
    outputs: tuple[int | str, ...]


class Origin(ABC):
    """The model file that a graph was read from: small models can be cut out of it.

    Drivers that hand operations to another runtime compile with it; they see no attributes.
    """

    form: str = ""
    """The name of the file's format, as its frontend has it: `tflite`, `onnx`."""

    @abstractmethod
    def cut(self, graph: Graph) -> Cut:
        """Return a model of the same format that computes a part of the file.

        `graph` is a subgraph of the file's graph, perhaps after passes. Operators, tensors and
        buffers between its inputs and its outputs are copied from the file, whatever passes made
        of them; `Value.index` is a tensor's number in the file. Raises EncodingError with the
        reason where the file has no such part.
        """


@dataclass(frozen=True, eq=False)
class State:
    """What a model keeps from one inference to the next; `initial` is what it has at first."""

    name: str
    initial: Array


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in topological order between named inputs and outputs.

    The last inputs and the last outputs are the old and the new content of `states`, in their
    order; users do not see them.

    `input_names` and `output_names` are the names users pass (the signature's, where the model has
    one); they default to the values' own names.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    listing: Listing | None = None
    """The numbering of the file; there only if TEFLON_DEBUG=verbose is to print it."""
    states: tuple[State, ...] = ()
    origin: Origin | None = None
    """The file that the graph was read from; None for a graph of another source."""

    def __post_init__(self) -> None:
        for field, values in (("input_names", self.inputs), ("output_names", self.outputs)):
            if not getattr(self, field):
                object.__setattr__(self, field, tuple(v.name for v in values))

    @property
    def given(self) -> tuple[Value, ...]:
        """The inputs that users give: all but the states."""
        return self.inputs[: len(self.inputs) - len(self.states)]

    @property
    def returned(self) -> tuple[Value, ...]:
        """The outputs that users get: all but the states."""
        return self.outputs[: len(self.outputs) - len(self.states)]

    @property
    def given_names(self) -> tuple[str, ...]:
        return self.input_names[: len(self.given)]

    @property
    def returned_names(self) -> tuple[str, ...]:
        return self.output_names[: len(self.returned)]

    def with_initial(self, arrays: Sequence[Array]) -> list[Array]:
        """Return arrays for all inputs: those that users give, then what states have at first."""
        return [*arrays, *(state.initial for state in self.states)]

    @cached_property
    def producers(self) -> dict[Value, Op]:
        """Result -> the operation that makes it."""
        return {v: op for op in self.ops for v in op.results}

    @cached_property
    def _users(self) -> dict[Value, list[Op]]:
        users: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs_present):
                users.setdefault(value, []).append(op)
        return users

    def producer(self, value: Value) -> Op | None:
        """Return the operation that makes a value; None for inputs and constants."""
        return self.producers.get(value)

    def users(self, value: Value) -> tuple[Op, ...]:
        """Return the operations that read a value, in order, each once."""
        return tuple(self._users.get(value, ()))

    def is_output(self, value: Value) -> bool:
        return any(value is v for v in self.outputs)

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Every value once: inputs first, then as the operations mention them."""
        found = dict.fromkeys(self.inputs)
        for op in self.ops:
            found.update(dict.fromkeys(op.inputs_present))
            found.update(dict.fromkeys(op.results))
        found.update(dict.fromkeys(self.outputs))
        return tuple(found)

    @cached_property
    def constants(self) -> tuple[Value, ...]:
        return tuple(v for v in self.values if v.is_constant)

    def with_ops(self, ops: Iterable[Op]) -> Graph:
        return dataclasses.replace(self, ops=tuple(ops))

    def subgraph(self, ops: Sequence[Op], name: str = "") -> Graph:
        """Return the graph of some of our operations: what they read from outside becomes input,
        what is read outside or is our output becomes output; constants stay inside.
        """
        inside = set(ops)
        made = {v for op in ops for v in op.results}
        ins: dict[Value, None] = {}
        outs: dict[Value, None] = {}
        for op in ops:
            for v in op.inputs_present:
                if v not in made and not v.is_constant:
                    ins[v] = None
            for v in op.results:
                if self.is_output(v) or any(u not in inside for u in self.users(v)):
                    outs[v] = None
        return Graph(name or self.name, tuple(ins), tuple(outs), tuple(ops), origin=self.origin)

    def problems(self) -> Iterator[str]:
        """Yield every broken invariant as a sentence that names the operation."""
        yield from self._type_problems()
        yield from self._constant_problems()
        yield from self._state_problems()
        known = set(self.inputs) | set(self.constants)
        for op in self.ops:
            unmade = [v for v in op.inputs_present if v not in known]
            twice = [v for v in op.results if v in known]
            yield from (f"{op.title}: reads {v.name!r} before anything made it" for v in unmade)
            yield from (f"{op.title}: makes {v.name!r}, which exists already" for v in twice)
            yield from (f"{op.title}: {problem}" for problem in op.verify())
            if op.mnemonic != "opaque":
                unknown = [v for v in (*op.inputs_present, *op.results) if v.type.dynamic]
                yield from (
                    f"{op.title}: {v.name!r} has no shape before it is computed, must be left to"
                    " opaque operations"
                    for v in unknown
                )
            known.update(op.results)
        yield from (f"output {v.name!r}: nothing makes it" for v in self.outputs if v not in known)

    def _type_problems(self) -> Iterator[str]:
        yield from (f"{v.name!r}: {v.type.problem}" for v in self.values if v.type.problem)
        counts = [tuple(map(len, ends)) for ends in (
            (self.inputs, self.input_names), (self.outputs, self.output_names))]  # fmt: skip
        if any(have != names for have, names in counts):
            yield f"has {counts[0]} inputs and names, {counts[1]} outputs and names"
        if len(set(self.inputs)) != len(self.inputs):
            yield "has an input twice"
        if any(v.is_constant for v in self.inputs):
            yield "has an input that is a constant"

    def _state_problems(self) -> Iterator[str]:
        count = len(self.states)
        if count > min(len(self.inputs), len(self.outputs)):
            yield f"has {count} states, must have an input and an output for each"
            return
        old, new = (p[len(p) - count :] for p in (self.inputs, self.outputs))
        for state, before, after in zip(self.states, old, new, strict=True):
            where, want, data = f"state {state.name!r}", before.type, state.initial
            if after.type != want:
                yield f"{where}: {after.name!r} must have the type of {before.name!r}"
            if (data.shape, data.dtype) != (want.shape, want.dtype.numpy):
                yield (
                    f"{where}: first content is {data.dtype}{list(data.shape)},"
                    f" must be {want.dtype.value}{list(want.shape)}"
                )

    def _constant_problems(self) -> Iterator[str]:
        for value in self.constants:
            data, want = value.data, value.type
            assert data is not None
            if data.shape != want.shape or data.dtype != want.dtype.numpy:
                yield (
                    f"constant {value.name!r}: data is {data.dtype}{list(data.shape)},"
                    f" must be {want.dtype.value}{list(want.shape)}"
                )

    def verify(self, after: str = "") -> Graph:
        """Return this graph, or raise VerifyError with every problem, naming the pass."""
        problems = list(self.problems())
        if problems:
            place = f"after {after}: " if after else ""
            raise VerifyError(place + "; ".join(problems))
        return self
