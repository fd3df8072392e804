"""What the methods of the builder share: names, constants, defaults, result types."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt

from teflon.errors import OptionError, did_you_mean, shown
from teflon.ir.fields import element, field_problem, quantised_by
from teflon.ir.graph import Graph, Op, State, Value, operand_names, result_name
from teflon.ir.types import NO_PADDING, Activation, Array, DType, Padding, Quantization, TensorType

Pair = int | tuple[int, int]
Pads = str | int | Padding | tuple[int, int, int, int]
Act = str | Activation


class Result(TypedDict, total=False):
    """How a result may be described; what is left out gets a default that suits the operation."""

    name: str
    scale: float
    zero_point: int
    quantization: Quantization | None


class Described(Result, total=False):
    """Result, and its element type and shape, where the operation does not decide them."""

    dtype: str | DType
    shape: tuple[int, ...]


class Window(Result, total=False):
    """Result, and the attributes of an operation with a sliding window."""

    stride: Pair
    padding: Pads  # "same", "valid", one number, (top, bottom, left, right) or Padding
    activation: Act
    clamp: tuple[int, int] | None


class Kernel(Window, total=False):
    """Window, and how raw weights given as an array are quantised."""

    dilation: Pair
    weight_scale: float | Sequence[float]  # several: per output channel
    weight_zero_point: int


class Clamped(Result, total=False):
    """Result of an operation that may end with an activation."""

    activation: Act
    clamp: tuple[int, int] | None


class BuilderBase:
    """Keeps names, inputs, constants, operations and outputs while a graph is built."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._output_names: list[str] = []
        self._ops: list[Op] = []
        self._states: list[tuple[State, Value, Value]] = []
        self._names: set[str] = set()

    def input(
        self,
        name: str,
        dtype: str | DType,
        shape: Sequence[int],
        scale: float | None = None,
        zero_point: int = 0,
    ) -> Value:
        """Add a graph input; quantised where a scale is given. Raises OptionError."""
        quantization = None if scale is None else quantised_by(name, scale, zero_point)
        try:
            type_ = TensorType(element(dtype), tuple(shape), quantization)
        except TypeError:
            raise OptionError(
                f"input {shown(name)}: shape is {shown(shape)}, must be whole numbers"
            ) from None
        if type_.problem:
            raise OptionError(f"input {shown(name)}: {type_.problem}")
        value = Value(self._name(name), type_)
        self._inputs.append(value)
        return value

    def state(self, old: Value, new: Value, initial: npt.ArrayLike = 0) -> None:
        """Keep `new` for the next inference, which sees it as `old`; at first that is `initial`."""
        first = np.broadcast_to(np.asarray(initial, old.type.dtype.numpy), old.shape)
        self._states.append((State(old.name, first), old, new))

    def constant(
        self,
        data: npt.ArrayLike,
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        axis: int = 0,
        name: str = "",
    ) -> Value:
        """Return a constant; several scales quantise along `axis`. Raises OptionError."""
        called = name or "constant"
        array = self._numbers(called, data)
        quantization = None
        if isinstance(scale, Iterable):
            each = [quantised_by(called, s, zero_point) for s in scale]
            scales = tuple(q.scale for q in each)
            quantization = Quantization(scales, (zero_point,) * len(scales), axis)
        elif scale is not None:
            quantization = quantised_by(called, scale, zero_point)
        type_ = TensorType(DType.of(array.dtype), array.shape, quantization)
        if type_.problem:
            raise OptionError(f"{called}: {type_.problem}")
        return Value(self._name(called), type_, array)

    def _numbers(self, called: str, data: npt.ArrayLike) -> Array:
        """Return a constant's array, read only. Raises OptionError for what is no array."""
        try:
            array = np.array(data, order="C")
            DType.of(array.dtype)
        except (KeyError, ValueError, TypeError):
            raise OptionError(f"{called}: is {shown(data)}, must be an array of numbers") from None
        array.flags.writeable = False
        return array

    def output(self, *values: Value, name: str = "") -> None:
        """Make values outputs of the graph, in order; `name` renames a single one for users."""
        for value in values:
            self._outputs.append(value)
            self._output_names.append(name or value.name)

    def add_op(self, op: Op) -> None:
        """Append an operation that was made by hand."""
        self._ops.append(op)

    def build(self) -> Graph:
        """Return the graph. Raises VerifyError with everything that is wrong."""
        states, olds, news = zip(*self._states, strict=True) if self._states else ((), (), ())
        graph = Graph(
            self.name,
            (*self._inputs, *olds),
            (*self._outputs, *news),
            tuple(self._ops),
            output_names=(*self._output_names, *(state.name for state in states)),
            states=states,
        )
        return graph.verify("building")

    def _name(self, wish: str) -> str:
        name, n = wish, 1
        while name in self._names:
            name, n = f"{wish}_{n}", n + 1
        self._names.add(name)
        return name

    def op(self, kind: type[Op], **given: Any) -> Value:
        """Add an operation of any class with one result: `b.op(ops.Squeeze, input=x, axes=(1,))`.

        `given` holds the fields of the class (arrays stand for constants), and what else describes
        the result: `name`, `scale`, `zero_point`, `quantization` as for every method; `dtype` and
        `shape` for operations that do not decide these by themselves. What is left out is as in the
        first operand. Raises OptionError for any other word, and for fields that are missing or
        of another type.
        """
        known = {field.name for field in dataclasses.fields(kind)}
        fields = {name: self._field(item) for name, item in given.items() if name in known}
        how = {name: item for name, item in given.items() if name not in known}
        if wrong := [name for name in how if name not in Described.__optional_keys__]:
            raise OptionError(
                f"{kind.tflite_name or kind.mnemonic}: there is no field {wrong[0]!r}"
                + did_you_mean(wrong[0], [*known, *Described.__optional_keys__])
            )
        first = fields[operand_names(kind)[0]]
        hint = first[0].type if isinstance(first, tuple) else first.type
        dtype, shape = element(how.pop("dtype", hint.dtype)), how.pop("shape", hint.shape)
        quantization = hint.quantization if dtype is hint.dtype else None
        hint = TensorType(dtype, tuple(shape), quantization)
        return self._one(kind, hint, cast(Result, how), **fields)

    def _field(self, item: Any) -> Any:
        return self.constant(item) if isinstance(item, np.ndarray) else item

    def _one(self, kind: type[Op], hint: TensorType, how: Result, /, **fields: Any) -> Value:
        return self._many(kind, [hint], how, **fields)[0]

    def _many(
        self, kind: type[Op], hints: Sequence[TensorType], how: Result, /, **fields: Any
    ) -> tuple[Value, ...]:
        wish = how.get("name") or kind.mnemonic
        names = [self._name(wish) for _ in hints]
        several = result_name(kind) == "outputs"

        def made(values: Sequence[Value]) -> Op:
            results = {"outputs": tuple(values)} if several else {"output": values[0]}
            if problem := field_problem(kind, {**fields, **results}):
                raise OptionError(f"{kind.tflite_name or kind.mnemonic}: {problem}")
            return kind(**fields, **results)

        draft = made([Value(n, h) for n, h in zip(names, hints, strict=True)])
        try:
            types = draft.infer()
        except ValueError as error:
            raise OptionError(f"{draft.title}: {error}") from error
        values = [
            Value(name, dataclasses.replace(type_, quantization=described(type_, hint, how)))
            for name, type_, hint in zip(names, types, hints, strict=True)
        ]
        op = made(values)
        self._ops.append(op)
        return op.results

    def _convolve(
        self, kind: type[Op], x: Value, w: Value, bias: Value | Array | None, how: Kernel,
        taps: int, kernel: Sequence[int],
    ) -> Value:  # fmt: skip
        stride, dilation = pair(how.get("stride", 1)), pair(how.get("dilation", 1))
        padding = pads(how.get("padding", "same"), x.shape[1:3], kernel, stride, dilation)
        return self._one(
            kind, accumulated(x, w, taps), how, input=x, weights=w, bias=self._bias(bias, x, w),
            stride=stride, dilation=dilation, padding=padding, **ending(how),
        )  # fmt: skip

    def _pool(self, kind: type[Op], x: Value, kernel: Pair, how: Window) -> Value:
        window, stride = pair(kernel), pair(how.get("stride", 1))
        padding = pads(how.get("padding", "same"), x.shape[1:3], window, stride, (1, 1))
        return self._one(
            kind, x.type, how, input=x, kernel=window, stride=stride, padding=padding,
            **ending(how),
        )  # fmt: skip

    def _binary(
        self, kind: type[Op], a: Value | Array, b: Value | Array, how: Clamped, scale: Any
    ) -> Value:
        if not isinstance(a, Value):
            a = self._like(a, b)  # type: ignore[arg-type]
        b = self._like(b, a)
        hint = a.type
        if a.type.quantization and b.type.quantization:
            quantization = Quantization.per_tensor(
                scale(a.type.scale, b.type.scale), middle(a.type.dtype)
            )
            hint = dataclasses.replace(a.type, quantization=quantization)
        return self._one(kind, hint, how, a=a, b=b, **ending(how))

    def _like(self, data: Value | Array, other: Value) -> Value:
        if isinstance(data, Value):
            return data
        array = np.asarray(data, other.type.dtype.numpy)
        value = self.constant(array)
        return dataclasses.replace(
            value, type=dataclasses.replace(value.type, quantization=other.type.quantization)
        )

    def _weights(self, weights: Value | Array, how: Kernel, axis: int) -> Value:
        if isinstance(weights, Value):
            return weights
        if weights.dtype.kind == "f":
            return self.constant(weights, name="weights")
        default = 128 if weights.dtype == np.uint8 else 0
        return self.constant(
            weights, how.get("weight_scale", 1 / 128), how.get("weight_zero_point", default),
            axis, "weights",
        )  # fmt: skip

    def _bias(self, bias: Value | Array | None, x: Value, w: Value) -> Value | None:
        if bias is None or isinstance(bias, Value):
            return bias
        if w.type.quantization is None:
            return self.constant(bias, name="bias")
        scales = [float(np.float32(x.type.scale) * np.float32(s)) for s in _scales(w)]
        per_axis = w.type.quantization.per_axis
        return self.constant(bias, scales if per_axis else scales[0], 0, 0, "bias")


def pair(value: Pair) -> tuple[int, int]:
    """Return (y, x); one number stands for both. Raises OptionError for other than 1 and more."""
    found = (value, value) if isinstance(value, int) else value
    if not (isinstance(found, tuple) and len(found) == 2 and all(_at_least_1(n) for n in found)):
        raise OptionError(f"is {shown(value)}, must be one or two whole numbers of at least 1")
    return found


def _at_least_1(number: object) -> bool:
    return isinstance(number, int) and number >= 1


def pads(
    given: Pads, size: Sequence[int], kernel: Sequence[int], stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Padding:  # fmt: skip
    """Return the padding that a caller meant; sizes are (height, width)."""
    if isinstance(given, Padding):
        return given
    if isinstance(given, int):
        return Padding(given, given, given, given)
    if isinstance(given, tuple):
        return Padding(*given)
    if given == "valid":
        return NO_PADDING
    if given == "same":
        return Padding.same((size[0], size[1]), (kernel[0], kernel[1]), stride, dilation)
    raise OptionError(f"padding: is {given!r}, must be 'same', 'valid' or numbers")


def ending(how: Window | Clamped) -> dict[str, Any]:
    """Return the fields for the activation or clamp of an operation."""
    return {"activation": named(how.get("activation", "none")), "clamp": how.get("clamp")}


def named(given: Act) -> Activation:
    """Return the activation that a caller named. Raises OptionError for another word."""
    try:
        return Activation(given)
    except ValueError:
        known = ", ".join(a.value for a in Activation)
        raise OptionError(f"activation: is {given!r}, must be one of {known}") from None


def middle(dtype: DType) -> int:
    """Return the zero point in the middle of a type's range."""
    return 128 if dtype is DType.UINT8 else 0


def _scales(value: Value) -> tuple[float, ...]:
    quantization = value.type.quantization
    return quantization.scales if quantization else (1.0,)


def described(made: TensorType, hint: TensorType, how: Result) -> Quantization | None:
    """Return how a result is quantised: as its caller says, else as the hint is."""
    if "quantization" in how:
        return how["quantization"]
    default = made.quantization or hint.quantization
    if "scale" not in how and "zero_point" not in how:
        return default
    scale = how.get("scale", default.scale if default else 1.0)
    zero_point = how.get("zero_point", default.zero_point if default else middle(made.dtype))
    return Quantization.per_tensor(scale, zero_point)


def accumulated(x: Value, w: Value, taps: int) -> TensorType:
    """Return a default type for sums of products.

    Its range holds three standard deviations of the sums of random bytes.
    """
    if x.type.quantization is None or w.type.quantization is None:
        return dataclasses.replace(x.type, quantization=None)
    deviation = 74.0 * 74.0 * math.sqrt(taps)
    scale = x.type.scale * max(_scales(w)) * deviation * 3 / 128
    return TensorType(
        x.type.dtype, x.shape, Quantization.per_tensor(scale, middle(x.type.dtype))
    )  # fmt: skip


def fixed(x: Value, scale: float, *, signed: bool) -> TensorType:
    """Return the result type of logistic, softmax or tanh: TFLite prescribes its quantisation."""
    if x.type.quantization is None:
        return x.type
    low, _ = x.type.dtype.range
    zero_point = middle(x.type.dtype) if signed else low
    if x.type.dtype is DType.INT16:
        scale, zero_point = 1 / 32768, 0
    return dataclasses.replace(x.type, quantization=Quantization.per_tensor(scale, zero_point))


def cut(type_: TensorType, axis: int, parts: int) -> TensorType:
    """Return the type of one of equal parts along an axis."""
    shape = list(type_.shape)
    shape[axis] //= parts
    return dataclasses.replace(type_, shape=tuple(shape))


def resized(x: Value, size: tuple[int, int]) -> TensorType:
    """Return the type of an image made (height, width) large."""
    return dataclasses.replace(x.type, shape=(x.shape[0], *size, *x.shape[3:]))
