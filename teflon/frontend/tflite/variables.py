"""What a model keeps between inferences, as values that operators read and make.

A file keeps state in two ways. VAR_HANDLE names a variable, READ_VARIABLE and ASSIGN_VARIABLE
copy its content, and CALL_ONCE runs a subgraph that assigns the first contents. And a tensor may be
variable itself: SVDF and the LSTMs read and change it in place. Both become states of the graph:
an input with the old content and an output with the new one. Nothing of the first way is left as an
operation, so that everything between can run on any device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.tflite.subgraphs import Operator
from teflon.ir import Array, DType, Graph, Op, State, Value, ops

Key = tuple[str, str]
"""A variable: its container, its name in it."""

OPERATORS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


class InseparableError(Exception):
    """The file does with its variables what values cannot say: it can only run as a whole."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """One state while operators are read."""

    name: str
    old: Value
    initial: Array


class Variables:
    """The variables of a file while its operators are read in the order in which they run."""

    def __init__(self) -> None:
        self.initial: dict[Key, Value] = {}
        self.retagged: list[Op] = []
        self._handles: dict[int, Key] = {}
        self._assigned: set[Key] = set()
        self._touched: set[Key] = set()
        self._kept: dict[Key | int, _Kept] = {}
        self._content: dict[Key | int, Value] = {}

    # Variables with a name ----------------------------------------------------------------------

    def prepare(self, operators: Iterable[Operator]) -> None:
        """Find the handles of all operators, and the variables that are assigned."""
        operators = list(operators)
        for operator in operators:
            if operator.name == "VAR_HANDLE" and operator.outputs:
                options = operator.options()[1]
                key = (str(options.get("container", "")), str(options.get("shared_name", "")))
                self._handles[operator.outputs[0]] = key
        for operator in operators:
            if operator.name == "ASSIGN_VARIABLE":
                self._assigned.add(self._key(operator))

    def is_handle(self, number: int) -> bool:
        return number in self._handles

    def _key(self, operator: Operator) -> Key:
        wanted = 2 if operator.name == "ASSIGN_VARIABLE" else 1
        if len(operator.inputs) != wanted or operator.inputs[0] not in self._handles:
            raise InseparableError(f"{operator.title} gets its variable from another operator")
        return self._handles[operator.inputs[0]]

    def read(self, operator: Operator, declared: Value, flexible: bool) -> tuple[Value, Op | None]:
        """Return what READ_VARIABLE gives: a value that is there, perhaps by an operation.

        `declared` is its result as the file has it; a `flexible` one gets the content's shape.
        """
        key = self._key(operator)
        self._touched.add(key)
        if key not in self._content:
            return self._first_read(key, declared, flexible), None
        content = self._content[key]
        if flexible:
            declared = replace(
                declared, type=replace(declared.type, shape=content.shape, dynamic=False)
            )
        _same_layout(key, content, declared)
        if content.type == declared.type:
            return content, None
        return declared, ops.Reshape(input=content, output=declared, index=operator.number)

    def _first_read(self, key: Key, declared: Value, flexible: bool) -> Value:
        first = self.initial.get(key)
        if flexible and first is not None:
            declared = replace(declared, type=replace(declared.type, shape=first.shape))
        if declared.type.dtype is DType.OTHER or declared.type.dynamic:
            raise InseparableError(f"variable {_name(key)!r} has no element type of the IR")
        if first is None:
            data = blank(declared)
        else:
            _same_layout(key, first, declared)
            assert first.data is not None
            data = first.data
        if key not in self._assigned:
            value = replace(declared, data=data)
        else:
            value = declared
            self._kept[key] = _Kept(_name(key), declared, data)
        self._content[key] = value
        return value

    def assign(self, operator: Operator, value: Value) -> None:
        """Take what ASSIGN_VARIABLE stores."""
        key = self._key(operator)
        self._touched.add(key)
        if value.type.dtype is DType.OTHER or value.type.dynamic:
            raise InseparableError(f"{operator.title} stores a tensor of unknown size")
        self._content[key] = value

    def begin(self, operator: Operator, contents: dict[Key, Value]) -> None:
        """Take the contents that the subgraph of a CALL_ONCE assigned."""
        if not self._touched.isdisjoint(contents):
            raise InseparableError(f"{operator.title} runs behind a use of its variables")
        self.initial.update(contents)

    @property
    def contents(self) -> dict[Key, Value]:
        """The contents of the variables with a name, as the operators so far left them."""
        return {key: value for key, value in self._content.items() if isinstance(key, tuple)}

    # Variable tensors ---------------------------------------------------------------------------

    def old(self, tensor: Value) -> Value:
        """Return the content of a variable tensor."""
        if tensor.index not in self._content:
            self._kept[tensor.index] = _Kept(tensor.name, tensor, blank(tensor))
            self._content[tensor.index] = tensor
        return self._content[tensor.index]

    def change(self, new: Value) -> None:
        """Take the content of a variable tensor behind an operator that changes it."""
        self._content[new.index] = new

    # The result -----------------------------------------------------------------------------------

    def states(self) -> tuple[tuple[State, Value, Value], ...]:
        """Return each state with its old and its new content.

        `retagged` has the operations then that give new contents the quantisation of the old.
        """
        return tuple(
            (State(kept.name, kept.initial), kept.old, self._new(key, kept))
            for key, kept in self._kept.items()
        )

    def _new(self, key: Key | int, kept: _Kept) -> Value:
        content = self._content[key]
        if content.type == kept.old.type:
            return content
        assert isinstance(key, tuple)
        _same_layout(key, content, kept.old)
        new = Value(f"{kept.name}/new", kept.old.type)
        self.retagged.append(ops.Reshape(input=content, output=new))
        return new


def blank(value: Value) -> Array:
    """Return what a variable has before anything is stored: zeros, of int8 the zero point.

    # Ref: LiteRT, tflite/core/subgraph.cc (ResetVariableTensors), tflite/c/common.h
    """
    kind = value.type
    filler = kind.zero_point if kind.dtype is DType.INT8 else 0
    return np.broadcast_to(np.array(filler, kind.dtype.numpy), kind.shape)


def variable_tensors(
    graph: Graph, changes: Sequence[Sequence[tuple[Value, Value]]]
) -> dict[Value, Value]:
    """Return each content of a variable tensor with the first one, which stands for the tensor.

    `changes` are the old and the new contents of each of the graph's operations. Raises ModelError
    unless each is a state of the graph that a file can change in place.
    """
    count = len(graph.states)
    first = len(graph.inputs) - count
    last = len(graph.outputs) - count
    place = {value: n for n, value in enumerate(graph.inputs[first:])}
    tensor: dict[Value, Value] = {}
    content: dict[Value, Value] = {}
    for op, pairs in zip(graph.ops, changes, strict=True):
        for old, new in pairs:
            kept = tensor.setdefault(old, old)
            is_state = kept in place and content.get(kept, kept) is old
            if not is_state or graph.users(old) != (op,):
                raise ModelError(f"{op.title}: {old.name!r} must be a state of the graph that no"
                                 " other operation reads (a file changes it in place)")  # fmt: skip
            tensor[new], content[kept] = kept, new
    for kept, new in content.items():
        state = graph.states[place[kept]]
        where = f"state {state.name!r}"
        if graph.outputs[last + place[kept]] is not new:
            raise ModelError(f"{where}: its new content must be what its last operation makes")
        if not np.array_equal(state.initial, blank(kept)):
            raise ModelError(f"{where}: must begin with the zero point (a variable tensor of a file"
                             " does)")  # fmt: skip
    return tensor


def _name(key: Key) -> str:
    return "/".join(part for part in key if part) or "variable"


def _same_layout(key: Key, a: Value, b: Value) -> None:
    if (a.type.dtype, a.shape) != (b.type.dtype, b.shape):
        raise InseparableError(f"variable {_name(key)!r} changes its type or its shape")
