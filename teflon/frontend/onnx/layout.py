"""Which axis of a tensor lies where: convolutions want channels last, ONNX has them second.

A tensor of the file is known by a `View`: an IR value, and for each axis of that value the axis of
the tensor it is. A Transpose of the file only gives the axes other numbers; operations that do not
care for the order of axes take them as they come; where an order is needed, `Emitter.arrange` makes
it. Constants are brought into order when the file is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.frontend.onnx.types import MAX_ELEMENTS
from teflon.ir import Op, Value, ops
from teflon.ir.graph import result_name
from teflon.ir.types import Array, DType, Quantization, TensorType

Perm = tuple[int | None, ...]

NHWC: Perm = (0, 2, 3, 1)


def plain(rank: int) -> Perm:
    """Return the order of a tensor as the file has it."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """Return NHWC for tensors of rank 4; an image of height one for those of rank 3."""
    return (0, None, 2, 1) if rank == 3 else (0, *range(2, rank), 1)


@dataclass(frozen=True, eq=False)
class View:
    """A tensor as an IR value holds it.

    Axis i of `value` is axis perm[i] of the tensor; None is an axis of size one that the tensor
    does not have.
    """

    value: Value
    perm: Perm

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in the file."""
        places = {axis: i for i, axis in enumerate(self.perm) if axis is not None}
        return tuple(self.value.shape[places[axis]] for axis in range(len(places)))

    @property
    def rank(self) -> int:
        return sum(axis is not None for axis in self.perm)

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def is_file_order(self) -> bool:
        """Whether the value is the tensor as the file has it: its shape, its order of elements."""
        return (
            None not in self.perm
            and self.same_order(plain(len(self.perm)))
            and self.value.shape == self.shape
        )

    def place(self, axis: int) -> int:
        """Return which axis of the value an axis of the tensor is."""
        return self.perm.index(axis)

    def spread(self, numbers: Sequence[int], fill: int) -> tuple[int, ...]:
        """Return numbers for the tensor's axes as numbers for the value's."""
        return tuple(fill if axis is None else int(numbers[axis]) for axis in self.perm)

    def order(self) -> list[int]:
        """Return the tensor's axes longer than one, as they lie in memory."""
        pairs = zip(self.perm, self.value.shape, strict=True)
        return [axis for axis, size in pairs if axis is not None and size != 1]

    def same_order(self, perm: Perm) -> bool:
        """Whether the elements lie in memory as they would in another order of axes."""
        long = set(self.order())
        return self.order() == [axis for axis in perm if axis in long]

    def renamed(self, axes: dict[int, int | None]) -> View:
        """Return the same value with other numbers of the tensor's axes."""
        perm = tuple(None if axis is None else axes[axis] for axis in self.perm)
        return View(self.value, perm)


def arranged(data: Array, perm: Perm) -> Array:
    """Return a constant of the file with its axes in this order."""
    kept = [axis for axis in perm if axis is not None]
    shape = [1 if axis is None else data.shape[axis] for axis in perm]
    found = np.ascontiguousarray(data.transpose(kept)).reshape(shape)
    found.flags.writeable = False
    return found


class Emitter:
    """Collects operations; results are named, typed and verified."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._names: dict[str, int] = {}
        self._arranged: dict[tuple[Value, Perm, Perm], View] = {}
        self.location = ""
        self.index = -1
        self.numbers: dict[Value, tuple[str, int]] = {}
        """Values that turned out to be tensors of the file as they are there: name and number."""

    def named(self, wish: str) -> str:
        """Return a name that no value has yet."""
        count = self._names.get(wish, 0)
        self._names[wish] = count + 1
        return wish if not count else self.named(f"{wish}_{count}")

    def add(self, op: Op) -> None:
        """Append an operation. Raises UnsupportedOperation where it is not one of the IR's."""
        if problems := op.verify():
            raise UnsupportedOperation(op.title, problems)
        self.ops.append(op)

    def emit(
        self, kind: type[Op], name: str, like: TensorType, index: int = -1,
        order: Perm | None = None, **fields: Any,
    ) -> Value:  # fmt: skip
        """Add an operation with one result of this type, but for the shape, which it decides.

        The result gets `index` unless its axes are in another order than the file's: `order`.
        """
        return self.emit_all(kind, [(name, index)], like, order, **fields)[0]

    def emit_all(
        self, kind: type[Op], names: Sequence[tuple[str, int]], like: TensorType,
        order: Perm | None = None, **fields: Any,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Add an operation with several results of one type, but for the shapes."""
        several = result_name(kind) == "outputs"

        def made(types: Sequence[TensorType]) -> Op:
            values = tuple(
                _indexed(Value(name, type_, None, index), order)
                for (name, index), type_ in zip(unique, types, strict=True)
            )
            results = {"outputs": values} if several else {"output": values[0]}
            return kind(**fields, **results, location=self.location, index=self.index)

        unique = [(self.named(name), index) for name, index in names]
        draft = made([like] * len(names))
        try:
            kinds = draft.infer()
        except ValueError as error:
            raise UnsupportedOperation(draft.title, [str(error)]) from error
        if max(kind.size for kind in kinds) > MAX_ELEMENTS:
            raise UnsupportedOperation(draft.title, [f"makes {list(kinds[0].shape)}, too large"])
        op = made([dataclasses.replace(like, shape=k.shape, dtype=k.dtype) for k in kinds])
        self.add(op)
        return op.results

    # Constants -------------------------------------------------------------------------------

    def constant(
        self, data: Array, name: str, quantization: Quantization | None = None, index: int = -1
    ) -> Value:  # fmt: skip
        """Return a constant."""
        array = np.ascontiguousarray(data).reshape(data.shape)
        if array.flags.writeable:
            array.flags.writeable = False
        type_ = TensorType(DType.of(array.dtype), array.shape, quantization)
        return Value(self.named(name), type_, array, index)

    # Order of axes ---------------------------------------------------------------------------

    def arrange(self, view: View, perm: Perm, name: str = "", index: int = -1) -> View:
        """Return a view of the same tensor with its axes in this order."""
        if view.perm == perm:
            return view
        key = (view.value, view.perm, perm)
        if key not in self._arranged:
            self._arranged[key] = self._arrange(view, perm, name or view.value.name, index)
        return self._arranged[key]

    def _arrange(self, view: View, perm: Perm, name: str, index: int) -> View:
        places = {axis: i for i, axis in enumerate(view.perm) if axis is not None}
        shape = tuple(1 if a is None else view.value.shape[places[a]] for a in perm)
        value, type_ = view.value, dataclasses.replace(view.type, shape=shape)
        if view.same_order(perm) and view.value.shape == shape:
            return View(value, perm)
        if value.data is not None:
            return View(_moved_constant(view, perm, self.named(name)), perm)
        if view.same_order(perm):
            return View(self.emit(ops.Reshape, name, type_, index, input=value), perm)
        return View(self._transposed(view, perm, type_, name, index), perm)

    def _transposed(
        self, view: View, perm: Perm, type_: TensorType, name: str, index: int
    ) -> Value:  # fmt: skip
        """Return the value in another order: without axes that the tensor has not, permuted, and
        with the new ones.
        """
        value = view.value
        kept = tuple(axis for axis in view.perm if axis is not None)
        wanted = tuple(axis for axis in perm if axis is not None)
        if len(kept) == len(view.perm) == len(perm) and None not in perm:
            order = tuple(kept.index(axis) for axis in wanted)
            return self.emit(ops.Transpose, name, type_, index, input=value, perm=order)
        if len(kept) < len(view.perm):
            inner = dataclasses.replace(
                type_, shape=tuple(view.value.shape[view.place(axis)] for axis in kept)
            )
            value = self.emit(ops.Reshape, name, inner, input=value)
        last = len(wanted) == len(perm)
        order = tuple(kept.index(axis) for axis in wanted)
        value = self.emit(
            ops.Transpose, name, type_, index if last else -1, input=value, perm=order
        )
        return value if last else self.emit(ops.Reshape, name, type_, index, input=value)


def _indexed(value: Value, perm: Perm | None) -> Value:
    """Return a value, without its number where its elements are not in the file's order."""
    if perm is None or value.index < 0:
        return value
    view = View(value, perm)
    if len(perm) == value.type.rank and None not in perm and view.is_file_order:
        return value
    return dataclasses.replace(value, index=-1)


def _moved_constant(view: View, perm: Perm, name: str) -> Value:
    value = view.value
    assert value.data is not None
    axes = [i for i, axis in enumerate(view.perm) if axis is not None]
    inner = value.data.reshape([value.shape[i] for i in axes])
    kept = [axis for axis in view.perm if axis is not None]
    wanted = [axis for axis in perm if axis is not None]
    moved = inner.transpose([kept.index(axis) for axis in wanted])
    shape = [1 if axis is None else moved.shape[wanted.index(axis)] for axis in perm]
    data = np.ascontiguousarray(moved).reshape(shape)
    data.flags.writeable = False
    quantization = value.type.quantization
    if quantization is not None and quantization.axis is not None:
        axis = perm.index(view.perm[quantization.axis])
        quantization = dataclasses.replace(quantization, axis=axis)
    return Value(name, TensorType(value.type.dtype, data.shape, quantization), data)
