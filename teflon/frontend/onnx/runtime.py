"""Tensors as the file has them, and nodes that are kept for a runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.frontend.onnx import tensors as records
from teflon.frontend.onnx.inference import Known, infer, infer_twin, read_type
from teflon.frontend.onnx.layout import Emitter, View, plain
from teflon.frontend.onnx.matching import Matcher
from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.operators import row_of
from teflon.frontend.onnx.tensors import Tensor, converted
from teflon.frontend.onnx.types import FLOAT, QType, shape_problem
from teflon.ir import Value, ops
from teflon.ir.types import Array, DType, TensorType


class Keeper:
    """Makes values as the file has them, in its order of axes and its types."""

    def __init__(
        self, model: Model, emitter: Emitter, tensors: Mapping[str, Tensor], match: Matcher,
        pending: Callable[[Node], None],
    ) -> None:  # fmt: skip
        self.model = model
        self.emitter = emitter
        self.tensors = tensors
        self.match = match
        self._pending = pending
        self._info = {v.name: v.type for v in (*model.graph.value_info, *model.graph.output)}
        match.held_view = lambda tensor, kind: self.as_held(self.view(tensor), kind)

    # Values ----------------------------------------------------------------------------------

    def view(self, tensor: Tensor) -> View:
        """Return a tensor's numbers as they are, in whatever order of axes there is."""
        if tensor.real is None:
            self._make(tensor)
        assert tensor.real is not None
        return tensor.real

    def _make(self, tensor: Tensor) -> None:
        data = tensor.data if tensor.data is not None else self.match.constant(tensor)
        if data is not None:
            tensor.real = self._constant(tensor, data)
        elif tensor.steps is not None:
            steps = tensor.steps
            if steps.is_file_order:
                steps = self.emitter.arrange(steps, plain(steps.rank))
            type_ = TensorType(DType.FLOAT32, steps.value.shape)
            value = self.emitter.emit(
                ops.Dequantize, tensor.name, type_, tensor.number, steps.perm, input=steps.value
            )
            tensor.real = View(value, steps.perm)
        elif tensor.pending is not None:
            node, tensor.pending = tensor.pending, None
            self._pending(node)
        else:
            raise UnsupportedOperation(tensor.name, ["nothing made it"])

    def _constant(self, tensor: Tensor, data: Array) -> View:
        dtype = tensor.dtype if tensor.data is not None else DType.FLOAT32
        if dtype is DType.OTHER:
            data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            type_ = TensorType(DType.OTHER, data.shape)
        else:
            type_ = TensorType(dtype, tuple(data.shape))
        data = np.ascontiguousarray(data).reshape(type_.shape)
        data.flags.writeable = False
        value = Value(self.emitter.named(tensor.name), type_, data, tensor.number)
        return View(value, plain(len(type_.shape)))

    def value(self, tensor: Tensor) -> Value:
        """Return a tensor as the file has it: its order of axes, its type, with a number."""
        if tensor.value is None:
            tensor.value = self._as_in_file(tensor)
        return tensor.value

    def _as_in_file(self, tensor: Tensor) -> Value:
        if tensor.real is None and tensor.steps is not None and not tensor.is_constant:
            steps = self.emitter.arrange(tensor.steps, plain(tensor.steps.rank))
            type_ = TensorType(DType.FLOAT32, steps.value.shape)
            return self.emitter.emit(
                ops.Dequantize, tensor.name, type_, tensor.number, input=steps.value
            )
        view = self.view(tensor)
        dtype = tensor.dtype
        retyped = view.type.dtype is not dtype and view.type.quantization is not None
        number = -1 if retyped else tensor.number
        view = self.emitter.arrange(view, plain(view.rank), tensor.name, number)
        value = view.value
        if retyped:
            kind = view.type.quantization
            assert kind is not None
            shown = converted(QType(view.type.dtype, kind.scales, kind.zero_points), dtype)
            type_ = records.typed(shown, value.shape)
            value = self.emitter.emit(ops.Quantize, tensor.name, type_, tensor.number, input=value)
        if value.index < 0:
            self.emitter.numbers.setdefault(value, (tensor.name, tensor.number))
        return value

    def as_held(self, view: View, kind: QType) -> View:
        """Return integers of the file as the values that they are held as, with this scale."""
        held = self.match.sign.held(kind)
        have = view.type
        for shown in (held, kind):
            type_ = records.typed(shown, have.shape)
            if (have.dtype, have.quantization) == (type_.dtype, type_.quantization):
                return self._converted(view, held)
        meant = converted(kind, have.dtype)
        if meant.dtype is not have.dtype:
            raise UnsupportedOperation(view.value.name, [f"is {have.dtype.value}, not 8 bits"])
        type_ = records.typed(meant, have.shape)
        value = self.emitter.emit(ops.Reshape, view.value.name, type_, input=view.value)
        return self._converted(View(value, view.perm), held)

    def _converted(self, view: View, held: QType) -> View:
        type_ = records.typed(held, view.value.shape)
        if view.type.dtype is held.dtype:
            return view
        value = self.emitter.emit(ops.Quantize, view.value.name, type_, input=view.value)
        return View(value, view.perm)

    # Nodes -----------------------------------------------------------------------------------

    def keep(self, node: Node, reason: str) -> None:
        """Add a node as an opaque operation."""
        inputs: list[Value | None] = [
            self.value(self.tensors[n]) if n else None for n in node.inputs
        ]
        inputs += [self.value(self.tensors[n]) for n in node.captures if n not in node.inputs]
        outputs = []
        for name, known in self._results(node).items():
            outputs.append(self._result(self.tensors[name], known))
        if not outputs:
            return
        self.emitter.add(
            ops.Opaque(
                inputs=tuple(inputs), outputs=tuple(outputs), kind=node.kind,
                version=max(self.model.opsets.get(node.domain, 1), 1), options=_options(node),
                options_type="NodeProto", reason=reason, location=node.where, index=node.number,
            )
        )  # fmt: skip

    def _results(self, node: Node) -> dict[str, Known | None]:
        known = {n: _known(self.tensors[n]) for n in node.reads}
        found: dict[str, Known] = {}
        if all(self.tensors[n].code for n in node.reads):
            found = self._inferred(node, known)
        results: dict[str, Known | None] = {}
        for name in filter(None, node.outputs):
            have = found.get(name)
            if (have is None or have.shape is None or None in have.shape) and name in self._info:
                have = _better(have, read_type(self._info[name]))
            results[name] = have
        return results

    def _inferred(self, node: Node, known: Mapping[str, Known]) -> dict[str, Known]:
        """Return what is known of results, of quantised operators by their float twins' rules."""
        row = row_of(node.domain, node.kind)
        if row is None or row.quantities is None or not node.domain:
            return infer(self.model, node, known)
        made = infer_twin(self.model, node, self.match.values_of(node, row.quantities), known)
        zero = row.quantities.result[1]
        name = node.inputs[zero] if zero < len(node.inputs) else ""
        first = next(iter(known.values()), Known(FLOAT, None))
        code = self.tensors[name].code if name else first.code
        return {n: dataclasses.replace(found, code=code) for n, found in made.items()}

    def _result(self, tensor: Tensor, known: Known | None) -> Value:
        code = known.code if known is not None else 0
        shape = known.shape if known is not None else None
        fixed = shape is not None and None not in shape
        dims = tuple(1 if n is None else n for n in shape or ())
        tensor.code = code
        tensor.shape = dims if fixed and not shape_problem(dims) else None
        tensor.dynamic = tensor.shape is None
        tensor.from_runtime = True
        hint = None if tensor.dynamic else self.match.hint(tensor.name)
        type_ = TensorType(tensor.dtype, dims, hint, tensor.dynamic)
        value = Value(self.emitter.named(tensor.name), type_, None, tensor.number)
        tensor.real, tensor.value = View(value, plain(len(dims))), value
        tensor.function = tensor.pending = None
        return value


def _known(tensor: Tensor) -> Known:
    return Known(tensor.code or FLOAT, tensor.shape, tensor.data)


def _better(have: Known | None, said: Known | None) -> Known | None:
    """Return what inference found, completed by what the file says."""
    if have is None or said is None or said.code != have.code:
        return have if have is not None else said
    if have.shape is None or said.shape is None or len(have.shape) != len(said.shape):
        return dataclasses.replace(have, shape=said.shape if have.shape is None else have.shape)
    shape = tuple(a if a is not None else b for a, b in zip(have.shape, said.shape, strict=True))
    return dataclasses.replace(have, shape=shape)


def _options(node: Node) -> bytes:
    """Return what a node says beside its wiring."""
    from onnx import NodeProto

    bare = NodeProto()
    bare.CopyFrom(node.proto)
    for name in ("name", "input", "output", "doc_string"):
        bare.ClearField(name)
    written: bytes = bare.SerializeToString(deterministic=True)
    return written
