"""Show an operation to the rows that read it, whatever form its quantisation has in the file.

In QDQ form the operands come from DequantizeLinear nodes and the result goes to a QuantizeLinear;
an operator such as QLinearConv has scales and zero points as operands. Both are a `Site`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from teflon.frontend.onnx import tensors
from teflon.frontend.onnx.layout import Emitter, Perm, View, plain
from teflon.frontend.onnx.model import Node
from teflon.frontend.onnx.tensors import EIGHT_BIT, Sign, Target, Tensor
from teflon.ir import Op, Value, ops
from teflon.ir.types import Activation, Array, DType, Quantization, TensorType

_STANDING = {
    Activation.RELU: ops.Relu,
    Activation.RELU6: ops.Relu6,
    Activation.RELU_N1_TO_1: ops.ReluN1To1,
}


@dataclass(eq=False)
class Site:
    """One operation while it is read.

    `version` is the operator set whose rules hold. `results` are the tensors that it makes.
    """

    node: Node
    kind: str
    version: int
    operands: Sequence[Tensor | None]
    results: Sequence[Tensor | None]
    emitter: Emitter
    sign: Sign
    target: Target | None
    real_view: Callable[[Tensor], View]
    wanted: Callable[[Tensor, View], tuple[str, int]]
    """The name and number of a result that only moves elements."""
    bias: Tensor | None = None
    """What is added to the result before it is quantised, for operators without such an operand."""
    reached: bool = False
    """Whether the result is the goal, not only the operand's elements in other places."""

    # Giving up -------------------------------------------------------------------------------

    def unread(self, reason: str) -> NoReturn:
        """Give up on this operation: it stays opaque, for this reason."""
        raise tensors.unread(f"{self.node.kind} {self.node.where!r}", reason)

    def require(self, good: bool, reason: str) -> None:
        """Give up unless `good`."""
        if not good:
            self.unread(reason)

    # Attributes ------------------------------------------------------------------------------

    def integer(self, name: str, default: int) -> int:
        value = self.node.attributes.get(name, default)
        self.require(isinstance(value, int), f"{name} is {value!r}, must be a whole number")
        return int(value)

    def number(self, name: str, default: float) -> float:
        value = self.node.attributes.get(name, default)
        good = isinstance(value, int | float) and math.isfinite(value)
        self.require(good, f"{name} is {value!r}, must be a finite number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.node.attributes.get(name, default)
        self.require(isinstance(value, str), f"{name} is {value!r}, must be a text")
        return str(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute with several numbers; None if it is absent."""
        value = self.node.attributes.get(name)
        if value is None:
            return None
        good = isinstance(value, list | tuple) and all(isinstance(n, int) for n in value)
        self.require(good, f"{name} is {value!r}, must be whole numbers")
        return tuple(value)

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """Return an axis counted from the front."""
        self.require(
            -rank <= axis < rank, f"{what} is {axis}, must be within {-rank} to {rank - 1}"
        )
        return axis % rank

    def axes(self, numbers: Sequence[int], rank: int) -> tuple[int, ...]:
        """Return axes counted from the front, in order, each once."""
        found = sorted({self.axis(a, rank) for a in numbers})
        self.require(len(found) == len(numbers), f"axes are {list(numbers)}, must be named once")
        return tuple(found)

    # Operands --------------------------------------------------------------------------------

    def operand(self, place: int) -> Tensor:
        """Return an operand that must be there."""
        found = self.optional(place)
        if found is None:
            self.unread(f"input {place} is absent, must be there")
        return found

    def optional(self, place: int) -> Tensor | None:
        return self.operands[place] if place < len(self.operands) else None

    def constant(self, place: int, what: str) -> Array | None:
        """Return an operand that must be constant if it is there."""
        tensor = self.optional(place)
        if tensor is None:
            return None
        if tensor.data is None:
            self.unread(f"{what} is computed, must be constant")
        self.require(tensor.dtype is not DType.OTHER, f"{what} is of an unknown type")
        return tensor.data

    def whole(self, place: int, what: str) -> tuple[int, ...] | None:
        """Return the integers of a constant operand, None if it is absent."""
        data = self.constant(place, what)
        if data is None:
            return None
        self.require(data.dtype.kind == "i", f"{what} is {data.dtype}, must be int32 or int64")
        self.require(data.size <= 64, f"{what} has {data.size} numbers, must have 64 at most")
        return tuple(int(n) for n in data.reshape(-1).tolist())

    def moved(self, place: int = 0) -> View:
        """Return an operand whose elements are only moved, of whatever type it is."""
        tensor = self.operand(place)
        self.require(not tensor.dynamic, f"the shape of {tensor.name!r} is known at run time only")
        view = tensor.steps if tensor.steps is not None else self.real_view(tensor)
        self.require(view.type.size > 0, f"{tensor.name!r} has no elements")
        self.require(view.type.dtype is not DType.OTHER, f"{tensor.name!r} is of an unknown type")
        return view

    def quantised(self, place: int = 0) -> View:
        """Return an operand that must be quantised per tensor, computed or constant."""
        tensor = self.operand(place)
        view = tensor.steps
        if view is None:
            self.unread(f"input {tensor.name!r} is not quantised")
        kind = view.type.quantization
        if view.type.dtype not in EIGHT_BIT or kind is None:
            self.unread(f"input {tensor.name!r} is {view.type.dtype.value}, must be u8 or i8")
        self.require(not kind.per_axis, f"input {tensor.name!r} is quantised per axis")
        self.require(view.type.size > 0, f"input {tensor.name!r} has no elements")
        return view

    def arranged(self, view: View, perm: Perm) -> View:
        return self.emitter.arrange(view, perm)

    def retyped(self, view: View, dtype: DType) -> View:
        """Return quantised values with this sign."""
        type_ = view.type
        if type_.dtype is dtype or type_.quantization is None:
            return view
        shift = 128 if dtype is DType.UINT8 else -128
        zeros = tuple(z + shift for z in type_.quantization.zero_points)
        kind = dataclasses.replace(type_.quantization, zero_points=zeros)
        name, value = view.value.name, view.value
        if value.data is not None:
            data = tensors.shifted(value.data, dtype)
            return View(self.emitter.constant(data, name, kind), view.perm)
        new = dataclasses.replace(type_, dtype=dtype, quantization=kind)
        return View(self.emitter.emit(ops.Quantize, name, new, input=value), view.perm)

    def requantised(self, view: View, like: TensorType) -> View:
        """Return quantised values on another scale."""
        if (view.type.dtype, view.type.quantization) == (like.dtype, like.quantization):
            return view
        new = dataclasses.replace(like, shape=view.value.shape)
        name = view.value.name
        if view.value.data is not None:
            return View(self._requantised_constant(view, new), view.perm)
        return View(self.emitter.emit(ops.Quantize, name, new, input=view.value), view.perm)

    def _requantised_constant(self, view: View, new: TensorType) -> Value:
        old = view.type
        assert view.value.data is not None
        real = (view.value.data.astype(np.float64) - old.zero_point) * old.scale
        low, high = new.dtype.range
        steps = np.clip(np.rint(real / new.scale) + new.zero_point, low, high)
        data = steps.astype(new.dtype.numpy)
        return self.emitter.constant(data, view.value.name, new.quantization)

    # Results ---------------------------------------------------------------------------------

    @property
    def goal(self) -> Target:
        """The quantised tensor that the result becomes. Gives up where there is none."""
        if self.target is None:
            self.unread("its result is not quantised")
        return self.target

    @property
    def goal_type(self) -> TensorType:
        return tensors.typed(self.goal.held)

    def computed(
        self, kind: type[Op], perm: Perm, shape: tuple[int, ...] = (), **fields: Any
    ) -> View:  # fmt: skip
        """Add an operation whose result is requantised to the goal, with activations before it."""
        goal, self.reached = self.goal, True
        names = {f.name for f in dataclasses.fields(kind)}
        type_ = dataclasses.replace(self.goal_type, shape=shape)
        exact = goal.activation
        if exact is Activation.NONE:
            value = self.emitter.emit(kind, goal.name, type_, goal.index, perm, **fields)
        elif "clamp" in names:
            ending: dict[str, Any] = (
                {"activation": exact} if exact is not None else {"clamp": goal.clamp}
            )
            value = self.emitter.emit(kind, goal.name, type_, goal.index, perm, **fields, **ending)
        else:
            free = self.emitter.emit(kind, f"{goal.name}/free", type_, **fields)
            value = self._limited(free, perm)
        return View(value, perm)

    def finished(self, view: View) -> View:
        """Return values that another operation made, requantised and limited as the goal wants."""
        goal, self.reached = self.goal, True
        if (view.type.dtype, view.type.quantization) != (
            self.goal_type.dtype, self.goal_type.quantization,
        ):  # fmt: skip
            return self.computed(ops.Quantize, view.perm, view.value.shape, input=view.value)
        if goal.activation is Activation.NONE:
            return view
        return View(self._limited(view.value, view.perm), view.perm)

    def _limited(self, value: Value, perm: Perm) -> Value:
        """Return a value of the goal's type with the activation before the goal."""
        goal = self.goal
        kind = _STANDING.get(goal.activation) if goal.activation else None
        if kind is not None:
            return self.emitter.emit(kind, goal.name, value.type, goal.index, perm, input=value)
        bounds = zip((ops.Maximum, ops.Minimum), goal.clamp, value.type.dtype.range, strict=True)
        needed = [(op, bound) for op, bound, edge in bounds if bound != edge]
        for left, (op, bound) in zip(reversed(range(len(needed))), needed, strict=True):
            data = np.array(bound, value.type.dtype.numpy).reshape((1,) * value.type.rank)
            limit = self.emitter.constant(data, f"{goal.name}/bound", value.type.quantization)
            name, index = (f"{goal.name}/above", -1) if left else (goal.name, goal.index)
            value = self.emitter.emit(op, name, value.type, index, perm, a=value, b=limit)
        return value

    def moving(
        self, kind: type[Op], source: View, perm: Perm, shape: tuple[int, ...] = (), *,
        result: int = 0, **fields: Any,
    ) -> View:  # fmt: skip
        """Add an operation that only moves elements; type and quantisation stay."""
        type_ = dataclasses.replace(source.type, shape=shape)
        name, index = self.result_name(source, result)
        return View(self.emitter.emit(kind, name, type_, index, perm, **fields), perm)

    def result_name(self, source: View, place: int = 0) -> tuple[str, int]:
        """Return the name and number for a result with the source's type."""
        tensor = self.results[place] if place < len(self.results) else None
        return (self.node.where, -1) if tensor is None else self.wanted(tensor, source)

    def one_result(self) -> None:
        """Give up where a second result is used."""
        used = sum(r is not None for r in self.results)
        self.require(all(r is None for r in self.results[1:]), f"has {used} results, must have 1")


def plain_perm(view: View) -> Perm:
    """Return the order of a view's tensor as the file has it."""
    return plain(view.rank)


def scalar_quantization(kind: Quantization | None) -> tuple[float, int]:
    """Return scale and zero point."""
    return (1.0, 0) if kind is None else (kind.scale, kind.zero_point)
