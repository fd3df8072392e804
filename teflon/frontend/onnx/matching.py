"""Find what surrounds a node: scales and zero points, the quantised tensor that a result becomes.

# Ref: onnx/docs/Operators.md (QuantizeLinear, DequantizeLinear)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from teflon.frontend.onnx import tensors as records
from teflon.frontend.onnx.folding import ELEMENTWISE
from teflon.frontend.onnx.layout import View, plain
from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.operators import row_of
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities
from teflon.frontend.onnx.tensors import EIGHT_BIT, Sign, Target, Tensor
from teflon.frontend.onnx.types import FLOAT, QType
from teflon.ir import Value
from teflon.ir.types import Array, DType, Quantization, TensorType

_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_CARRIERS = frozenset((
    "Expand", "Gather", "Identity", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))  # fmt: skip
"""Operators that carry elements to other places and do nothing else. A Reshape costs nothing."""


class Matcher:
    """Looks around in the graph of a file."""

    def __init__(self, model: Model, tensors: Mapping[str, Tensor]) -> None:
        self.model = model
        self.tensors = tensors
        self.sign = Sign.KEEP
        self.held_view: Callable[[Tensor, QType], View]
        """Returns a computed tensor's values as they are held for a scale; the keeper sets it."""
        self.makers = {o: node for node in model.nodes for o in node.outputs if o}
        self.readers: dict[str, list[Node]] = {}
        for node in model.nodes:
            for name in node.reads:
                self.readers.setdefault(name, []).append(node)
        self._outputs = frozenset(model.outputs)
        self._hints: dict[str, QType] = {}
        self.leads: set[str] = set()
        """Tensors that become a quantised one, or came of one, by nodes that move elements only."""
        self.floating: set[Node] = set()
        """Nodes whose results are carried to float operations only."""

    def is_quantiser(self, node: Node) -> bool:
        """Whether a node is QuantizeLinear or DequantizeLinear, of ONNX or of onnxruntime."""
        return (
            node.kind in _QUANTISERS
            and node.domain in ("", MICROSOFT)
            and 2 <= len(node.inputs) <= 3
            and bool(node.inputs[0] and node.inputs[1])
            and len(node.outputs) == 1
            and bool(node.outputs[0])
        )

    def parameters(self, node: Node, shape: tuple[int, ...] | None) -> QType:
        """Return scale and zero point of a quantiser. Raises ValueError with a reason."""
        scale = self.tensors[node.inputs[1]].data
        zero_name = node.inputs[2] if len(node.inputs) > 2 else ""
        zero = self.tensors[zero_name].data if zero_name else None
        if scale is None or (zero_name and zero is None):
            raise ValueError("scale or zero point are computed, must be constant")
        if node.attributes.get("block_size"):
            raise ValueError("quantises in blocks, must be per tensor or per axis")
        if zero is not None and self.tensors[zero_name].dtype is DType.OTHER:
            raise ValueError("zero point is of a type that Teflon does not know")
        default = DType.UINT8
        if node.kind == "DequantizeLinear":
            default = self.tensors[node.inputs[0]].dtype
        axis = node.attributes.get("axis", 1)
        return records.qtype(scale, zero, axis if isinstance(axis, int) else 1, shape, default)

    def constant(self, tensor: Tensor) -> Array | None:
        """Return a constant's content, dequantised where it is kept in steps; None for others."""
        if tensor.data is not None:
            return None if tensor.dtype is DType.OTHER else tensor.data
        if tensor.steps is None or tensor.real is not None:
            return None
        value = tensor.steps.value
        if value.data is None:
            return None
        kind = value.type.quantization
        assert kind is not None
        real = records.dequantised(
            value.data, QType(value.type.dtype, kind.scales, kind.zero_points, kind.axis)
        )
        kept = [a for a in tensor.steps.perm if a is not None]
        places = [i for i, a in enumerate(tensor.steps.perm) if a is not None]
        inner = real.reshape([value.shape[i] for i in places])
        return np.ascontiguousarray(inner.transpose(np.argsort(kept))) if kept else inner

    # Looking back: what integers of the file mean ----------------------------------------------

    def look_back(self) -> None:
        """Note scales that nodes read integer tensors with, through nodes that only move."""
        for node in reversed(self.model.nodes):
            if self._is_floating(node):
                self.floating.add(node)
            if self.is_quantiser(node):
                self.leads.add(node.inputs[0])
                if node.kind == "DequantizeLinear":
                    self._note(node, node.inputs[0])
                continue
            row = row_of(node.domain, node.kind)
            if row is None:
                continue
            if row.quantities is not None:
                self._note_operands(node, row.quantities)
            elif row.moves and any(o in self.leads for o in node.outputs):
                inputs = node.inputs if node.kind == "Concat" else node.inputs[:1]
                self.leads.update(n for n in inputs if n)
                hint = next((self._hints[o] for o in node.outputs if o in self._hints), None)
                if hint is not None:
                    for name in filter(None, inputs):
                        self._hints.setdefault(name, hint)

    def _is_floating(self, node: Node) -> bool:
        """Whether a node is a float operation, or its results come to such ones only."""
        carries = node.kind == "DequantizeLinear" or node.kind in _CARRIERS
        if self.is_quantiser(node) and not carries:
            return False
        if not carries and row_of(node.domain, node.kind) is not None:
            return False
        if not carries and not self._is_function(node):
            return True
        used = [o for o in node.outputs if o and (o in self.readers or o in self._outputs)]
        return not any(o in self._outputs for o in used) and all(
            reader in self.floating for o in used for reader in self.readers[o]
        )

    def _is_function(self, node: Node) -> bool:
        """Whether a node computes element by element, from one number each beside its operand."""
        if node.domain or node.kind not in ELEMENTWISE:
            return False
        shapes = [self.tensors[n].shape for n in node.reads if self.tensors[n].is_constant]
        return all(shape is not None and math.prod(shape) == 1 for shape in shapes)

    def _note(self, node: Node, name: str) -> None:
        try:
            kind = self.parameters(node, None)
        except ValueError:
            return
        if kind.dtype in EIGHT_BIT:
            self._hints.setdefault(name, kind)

    def _note_operands(self, node: Node, where: Quantities) -> None:
        for places in _triples(where, len(node.inputs)):
            if len(places) == 3 and places[0] < len(node.inputs) and node.inputs[places[0]]:
                name = node.inputs[places[0]]
                self.leads.add(name)
                try:
                    self._hints.setdefault(name, self._quantity(node, places[1:], None, 0))
                except ValueError:
                    continue

    def hint(self, name: str) -> Quantization | None:
        """Return the quantisation that an integer tensor is read with; None if it is not."""
        kind = self._hints.get(name)
        if kind is None or self.tensors[name].dtype is not kind.dtype:
            return None
        return records.quantization(kind)

    # Looking ahead: what a result becomes ------------------------------------------------------

    def target(self, name: str) -> Target | None:
        """Return the quantised tensor that a float one becomes at once, or behind activations."""
        low, high = -math.inf, math.inf
        skipped: list[Node] = []
        while name and name not in self._outputs:
            users = self.readers.get(name, [])
            if not users:
                return None
            if all(self._quantises(u, name) for u in users):
                found = self._quantised_by(users)
                return found and dataclasses.replace(
                    found, low=low, high=high, skipped=tuple(skipped)
                )
            bounds = self._bounds(users[0], name) if len(users) == 1 else None
            if bounds is None:
                return None
            low, high = (min(max(b, bounds[0]), bounds[1]) for b in (low, high))
            skipped.append(users[0])
            name = users[0].outputs[0]
        return None

    def _quantises(self, node: Node, name: str) -> bool:
        return (
            self.is_quantiser(node)
            and node.kind == "QuantizeLinear"
            and node.inputs[0] == name
            and name not in node.inputs[1:]
        )

    def _quantised_by(self, users: Sequence[Node]) -> Target | None:
        """Return what several quantisers that say the same make."""
        try:
            kinds = {self.parameters(u, None) for u in users}
        except ValueError:
            return None
        if len(kinds) != 1:
            return None
        kind = kinds.pop()
        if kind.dtype not in EIGHT_BIT:
            return None
        return self._target(users[0].outputs[0], kind, tuple(users))

    def _target(self, name: str, kind: QType, users: tuple[Node, ...] = ()) -> Target:
        number = self.tensors[name].number
        return Target(name, number, kind, self.sign.held(kind), quantisers=users)

    def _bounds(self, node: Node, name: str) -> tuple[float, float] | None:
        """Return the bounds of an activation that clamps; None for any other node."""
        if node.domain or not node.outputs or not node.inputs or node.captures:
            return None
        if node.kind == "Clip" and node.inputs[0] != name:
            return None
        if node.kind == "Relu":
            return 0.0, math.inf
        if node.kind in ("Min", "Max") and len(node.inputs) == 2:
            other = node.inputs[1 if node.inputs[0] == name else 0]
            number = self._number(other)
            if number is None:
                return None
            return (number, math.inf) if node.kind == "Max" else (-math.inf, number)
        if node.kind != "Clip":
            return None
        return self._clip(node)

    def _clip(self, node: Node) -> tuple[float, float] | None:
        found: list[float] = []
        for place, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
            number: float | None = default
            if self.model.opset < 11:
                value = node.attributes.get(name, default)
                number = float(value) if isinstance(value, int | float) else None
            elif place < len(node.inputs) and node.inputs[place]:
                number = self._number(node.inputs[place])
            if number is None or math.isnan(number):
                return None
            found.append(number)
        return (found[0], found[1]) if found[0] <= found[1] else None

    def _number(self, name: str) -> float | None:
        """Return a constant of one number."""
        data = self.constant(self.tensors[name]) if name else None
        if data is None or data.size != 1:
            return None
        return float(data.reshape(-1)[0])

    def added_bias(
        self, node: Node, operands: Sequence[Tensor | None]
    ) -> tuple[Target | None, Tensor | None]:
        """Return what a result becomes behind an Add of a constant for each output, and that."""
        if len(operands) > 2 or len(operands) < 2 or operands[1] is None or not node.outputs:
            return None, None
        name, weights = node.outputs[0], operands[1]
        users = self.readers.get(name, [])
        if len(users) != 1 or users[0].kind != "Add" or users[0].domain or name in self._outputs:
            return None, None
        pair = users[0].inputs
        if len(pair) != 2 or not users[0].outputs:
            return None, None
        other = self.tensors.get(pair[1] if pair[0] == name else pair[0])
        target = self.target(users[0].outputs[0])
        if other is None or target is None or not self._is_bias(node, weights, other):
            return None, None
        skipped = (users[0], *target.skipped)
        return dataclasses.replace(target, skipped=skipped), other

    def _is_bias(self, node: Node, weights: Tensor, other: Tensor) -> bool:
        """Whether a constant has one number for each output of a node."""
        shape, w = other.shape, weights.shape
        if not other.is_constant or shape is None or w is None or len(w) < 2:
            return False
        if node.kind in ("Conv", "ConvTranspose"):
            outputs, behind = w[0 if node.kind == "Conv" else 1], len(w) - 2
            tail = (outputs, *(1,) * behind)
        else:
            last = node.kind == "Gemm" and node.attributes.get("transB")
            outputs, tail = (w[0], (w[0],)) if last else (w[-1], (w[-1],))
        return math.prod(shape) == outputs and shape[-len(tail) :] == tail

    def wanted(self, tensor: Tensor, source: View) -> tuple[str, int]:
        """Return the name and number for a result that has the elements of a source.

        In QDQ form it is the quantised tensor behind it, if that has the same scale.
        """
        if source.type.quantization is None or tensor.name in self._outputs:
            return tensor.name, tensor.number if source.type.quantization is None else -1
        declared = _declared(source.type)
        users = self.readers.get(tensor.name, [])
        if users and all(self._quantises(u, tensor.name) for u in users):
            found = self._quantised_by(users)
            if found is not None and found.held == declared:
                return found.name, found.index
        hint = self._hints.get(tensor.name)
        return tensor.name, tensor.number if hint is not None and hint == declared else -1

    # Operators with quantised operands ---------------------------------------------------------

    def operands(
        self, node: Node, where: Quantities, given: Sequence[Tensor | None]
    ) -> tuple[list[Tensor | None], Target]:
        """Return the operands as float tensors that are others dequantised, and the result."""
        found: list[Tensor | None] = []
        try:
            for place, places in enumerate(_triples(where, len(node.inputs))):
                found.append(self._operand(node, where, place, places, given))
            kind = self._quantity(node, where.result, None, 0, _result_type(given))
        except ValueError as error:
            raise records.unread(node.where, str(error)) from error
        if kind.axis is not None or kind.dtype not in EIGHT_BIT or not node.outputs:
            raise records.unread(node.where, "its result must be quantised to 8 bits per tensor")
        return found, self._target(node.outputs[0], kind)

    def values_of(self, node: Node, where: Quantities) -> tuple[str, ...]:
        """Return the operands of a quantised operator that its float twin has too."""
        places = (p[0] for p in _triples(where, len(node.inputs)))
        return tuple(node.inputs[p] for p in places if p < len(node.inputs))

    def _operand(
        self, node: Node, where: Quantities, place: int, places: tuple[int, ...],
        given: Sequence[Tensor | None],
    ) -> Tensor | None:  # fmt: skip
        tensor = given[places[0]] if places[0] < len(given) else None
        if tensor is None or len(places) == 1:
            return tensor
        axis = where.axis if place == 1 else 0
        if node.attributes.get("transB"):
            axis = 0
        kind = self._quantity(node, places[1:], tensor.shape, axis, tensor.dtype)
        if kind.dtype is not tensor.dtype or kind.dtype not in EIGHT_BIT:
            raise ValueError(
                f"{tensor.name!r} is {tensor.dtype.value} with a zero point of {kind.dtype.value}"
            )
        out = Tensor(tensor.name, -1, FLOAT, tensor.shape, source=tensor.source)
        if tensor.data is not None:
            out.steps = _constant_steps(tensor, kind)
        elif kind.axis is not None:
            raise ValueError(f"{tensor.name!r} is quantised per axis, must be per tensor")
        else:
            out.steps = self.held_view(tensor, kind)
        return out

    def _quantity(
        self, node: Node, places: Sequence[int], shape: tuple[int, ...] | None, axis: int,
        default: DType = DType.UINT8,
    ) -> QType:  # fmt: skip
        names = [node.inputs[p] if p < len(node.inputs) else "" for p in places]
        data = [self.tensors[n].data if n else None for n in names]
        if data[0] is None or (names[1] and data[1] is None):
            raise ValueError("a scale or zero point is not constant, must be")
        return records.qtype(data[0], data[1], axis, shape, default)


def _declared(type_: TensorType) -> QType | None:
    kind = type_.quantization
    return None if kind is None else QType(type_.dtype, kind.scales, kind.zero_points)


def _result_type(given: Sequence[Tensor | None]) -> DType:
    """Return the type of a result without zero point: that of the operand, else unsigned."""
    first = given[0] if given else None
    return first.dtype if first is not None and first.dtype in EIGHT_BIT else DType.UINT8


def _triples(where: Quantities, count: int) -> list[tuple[int, ...]]:
    if not where.repeated:
        return list(where.operands)
    first = where.operands[0][0]
    return [(at, at + 1, at + 2) for at in range(first, count - 2, 3)]


def _constant_steps(tensor: Tensor, kind: QType) -> View:
    data = tensor.data
    assert data is not None
    quantization = records.quantization(kind, kind.axis)
    value = Value(
        tensor.name, TensorType(kind.dtype, data.shape, quantization), data, tensor.number
    )
    return View(value, plain(data.ndim))
