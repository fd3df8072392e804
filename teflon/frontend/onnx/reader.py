"""ONNX files to graphs.

One walk over the nodes in order. A tensor of the file is known as a constant, as a value of the IR
in some order of axes, or as a quantised value that it is the float form of: then what a
DequantizeLinear node makes costs nothing, as long as nobody needs the float numbers. A node that
the IR has no operation for, or not in this form, becomes an `Opaque` with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from teflon.errors import ModelError, UnsupportedOperation
from teflon.frontend.onnx import tensors as records
from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.folding import fold
from teflon.frontend.onnx.functions import Functions
from teflon.frontend.onnx.inference import Known, code_of
from teflon.frontend.onnx.inputs import input_shapes
from teflon.frontend.onnx.layout import Emitter, View, plain
from teflon.frontend.onnx.matching import Matcher
from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.operators import row_of
from teflon.frontend.onnx.operators.row import Row
from teflon.frontend.onnx.runtime import Keeper
from teflon.frontend.onnx.signs import choose
from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.tensors import EIGHT_BIT, Function, Tensor
from teflon.frontend.onnx.tidy import tidy
from teflon.frontend.onnx.types import CODES, FLOAT, QType
from teflon.ir import Graph, Value, ops
from teflon.ir.types import Array, DType, TensorType
from teflon.pipe import Data

_NO_ROW = "no operation of the IR for it"


def read(
    data: Data, name: str = "", folder: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:  # fmt: skip
    """Return the verified graph of a model; `name` stands in messages.

    `folder` is where files with external data lie, `shapes` has new shapes of inputs. Raises
    ModelError; OptionError for a shape of an input that is not there.
    """
    try:
        model = Model(data, name, folder)
        return _Reader(model, input_shapes(model, shapes or {})).graph()
    except UnicodeDecodeError as error:  # the parser looks at a text only when it is asked for
        raise ModelError(f"{name}: a name in it is no UTF-8 text: {error}") from error


class _Reader:
    """One file while it is read."""

    def __init__(self, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.model = model
        self.emitter = Emitter()
        self.tensors = {n: Tensor(n, number) for n, number in model.numbers.items()}
        self.match = Matcher(model, self.tensors)
        self.done: set[Node] = set()
        self._constants()
        self.match.sign = choose(model.nodes, self.match.makers, self.tensors)
        self.match.look_back()
        self.inputs = [self._input(v.name, v.type.tensor_type.elem_type, shapes[v.name])
                       for v in model.inputs]  # fmt: skip
        self.functions = Functions(model, self.tensors, self.match)
        self.keeper = Keeper(model, self.emitter, self.tensors, self.match, self._pending)

    def graph(self) -> Graph:
        """Read every node that outputs depend on."""
        for node in self.model.nodes:
            if node not in self.done:
                self._read(node)
        outputs = [self.keeper.value(self.tensors[n]) for n in self.model.outputs]
        numbered = {
            value: dataclasses.replace(value, name=name, index=number)
            for value, (name, number) in self.emitter.numbers.items()
        }
        graph = Graph(
            self.model.graph.name or Path(self.model.name).stem or "model",
            tuple(self.inputs),
            tuple(numbered.get(value, value) for value in outputs),
            tuple(op.rewired(numbered) if numbered else op for op in self.emitter.ops),
            tuple(v.name for v in self.model.inputs),
            tuple(self.model.outputs),
            origin=OnnxOrigin(self.model, self._folded()),
        )
        return tidy(graph).verify("reading")

    def _folded(self) -> dict[str, Array]:
        """Return what was computed of constants, by name."""
        initial = self.model.initialisers
        return {
            n: t.data for n, t in self.tensors.items() if t.data is not None and n not in initial
        }

    # Constants and inputs --------------------------------------------------------------------

    def _constants(self) -> None:
        """Take the initialisers, and compute what depends on constants only."""
        for name, proto in self.model.initialisers.items():
            tensor = self.tensors[name]
            tensor.code, tensor.shape = proto.data_type, tuple(proto.dims)
            tensor.data = self.model.array(name)
        for node in self.model.nodes:
            if all(self.tensors[n].is_constant for n in node.reads):
                self._fold(node)

    def _fold(self, node: Node) -> bool:
        """Take a node's results as constants where they are; say whether they were."""
        if self.match.is_quantiser(node):
            made = self._fold_steps(node)
        elif self._has_shape(node):
            made = self._fold_shape(node)
        elif all(self.tensors[n].is_constant for n in node.reads):
            made = self._fold_plain(node)
        else:
            made = False
        if made:
            self.done.add(node)
        return made

    def _has_shape(self, node: Node) -> bool:
        """Whether a node asks for a shape that is known."""
        if node.domain or node.kind not in ("Shape", "Size") or not all(node.outputs[:1]):
            return False
        numbers = [node.attributes.get(k) for k in ("start", "end")]
        if not all(n is None or isinstance(n, int) for n in numbers):
            return False
        if len(node.inputs) != 1 or not node.inputs[0] or len(node.outputs) != 1:
            return False
        tensor = self.tensors[node.inputs[0]]
        return tensor.shape is not None and not tensor.dynamic

    def _fold_shape(self, node: Node) -> bool:
        shape = self.tensors[node.inputs[0]].shape or ()
        if node.kind == "Size":
            found = np.array(int(np.prod(shape, dtype=object)), np.int64)
        else:
            start, end = (node.attributes.get(k) for k in ("start", "end"))
            found = np.array(shape[slice(start or 0, end)], np.int64)
        self._set_constant(node.outputs[0], found)
        return True

    def _fold_plain(self, node: Node) -> bool:
        operands = [self.constant(self.tensors[n]) if n else None for n in node.inputs]
        if any(x is None for n, x in zip(node.inputs, operands, strict=True) if n):
            return False
        if self._moves_steps(node):
            return False
        known = {n: self.known(self.tensors[n]) for n in node.reads}
        for name, x in zip(node.inputs, operands, strict=True):
            if name:
                known[name] = dataclasses.replace(known[name], data=x)
        made = fold(self.model, node, operands, known)
        if made is None or len(made) < len(node.outputs):
            return False
        for name, array in zip(node.outputs, made, strict=False):
            if name:
                self._set_constant(name, array)
        return True

    def _moves_steps(self, node: Node) -> bool:
        """Whether a node moves elements of a quantised constant, which keep their scale."""
        row = row_of(node.domain, node.kind)
        first = node.inputs[0] if node.inputs else ""
        return bool(row and row.moves and first and self.tensors[first].data is None)

    def _fold_steps(self, node: Node) -> bool:
        """Quantise a float constant, or keep a quantised one with its scale."""
        source, out = self.tensors[node.inputs[0]], self.tensors[node.outputs[0]]
        data = source.data
        if data is None:
            return False
        try:
            kind = self.match.parameters(node, tuple(data.shape))
        except ValueError:
            return False
        if node.kind == "QuantizeLinear":
            if data.dtype != np.float32 or kind.dtype not in EIGHT_BIT:
                return False
            self._set_constant(node.outputs[0], records.quantised(data, kind))
            return True
        if data.dtype != kind.dtype.numpy or kind.dtype not in (*EIGHT_BIT, DType.INT32):
            return False
        quantization = records.quantization(kind, kind.axis)
        value = self.emitter.constant(data, out.name, quantization, source.number)
        out.steps = View(value, plain(data.ndim))
        out.code, out.shape = FLOAT, tuple(data.shape)
        return True

    def _set_constant(self, name: str, data: Array) -> None:
        tensor = self.tensors[name]
        data = np.ascontiguousarray(data).reshape(data.shape)
        data.flags.writeable = False
        tensor.data, tensor.code, tensor.shape = data, code_of(data), tuple(data.shape)

    def constant(self, tensor: Tensor) -> Array | None:
        """Return a constant's content, dequantised where it is kept in steps."""
        return self.match.constant(tensor)

    def _input(self, name: str, code: int, shape: tuple[int, ...]) -> Value:
        tensor = self.tensors[name]
        tensor.code, tensor.shape = code, shape
        type_ = TensorType(tensor.dtype, shape, self.match.hint(name))
        value = Value(self.emitter.named(name), type_, None, tensor.number)
        tensor.real = View(value, plain(len(shape)))
        tensor.value = value
        return value

    def known(self, tensor: Tensor) -> Known:
        """Return what is known of a tensor."""
        return Known(tensor.code or FLOAT, tensor.shape, tensor.data)

    # Nodes -----------------------------------------------------------------------------------

    def _read(self, node: Node) -> None:
        self.emitter.location, self.emitter.index = node.where, node.number
        if self._fold(node):
            return
        row = row_of(node.domain, node.kind)
        reason = _NO_ROW
        try:
            if any(self.tensors[n].dynamic for n in node.reads):
                reason = "reads a tensor whose shape is known at run time only"
            elif self.match.is_quantiser(node):
                self._quantiser(node)
                return
            elif row is not None:
                self._known(node, row)
                return
        except UnsupportedOperation as error:
            reason = "; ".join(error.reasons)
        if not self.functions.note(node):
            self.keeper.keep(node, reason)

    def _pending(self, node: Node) -> None:
        """Keep a node that was left out, now that somebody needs its float numbers."""
        location, index = self.emitter.location, self.emitter.index
        self.emitter.location, self.emitter.index = node.where, node.number
        self.keeper.keep(node, "its result is needed in float32")
        self.emitter.location, self.emitter.index = location, index

    def _known(self, node: Node, row: Row) -> None:
        """Read a node by its row."""
        operands = [self.tensors[n] if n else None for n in node.inputs]
        while operands and operands[-1] is None:
            operands.pop()
        if not row.inputs[0] <= len(operands) <= row.inputs[1] or node.captures:
            raise records.unread(
                node.where, f"has {len(operands)} inputs, must have {row.inputs[0]} or more"
            )
        site = self._site(node, row, operands)
        if row.moves and not row.quantities:
            self._refuse_plain(site)
        made = row.read(site)
        views = [made] if isinstance(made, View) else list(made)
        if site.reached:
            self._reach(site, views[0])
            return
        for name, view in zip(node.outputs, views, strict=False):
            if name:
                self._set_moved(self.tensors[name], operands[0], view)

    def _site(self, node: Node, row: Row, operands: list[Tensor | None]) -> Site:
        target = None
        bias = None
        if row.quantities is not None:
            operands, target = self.match.operands(node, row.quantities, operands)
        else:
            target = self.match.target(node.outputs[0]) if node.outputs else None
            if target is None and node.kind in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
                target, bias = self.match.added_bias(node, operands)
        return Site(
            node=node, kind=node.kind, version=self.model.opset, operands=operands,
            results=self._results(node), emitter=self.emitter, sign=self.match.sign,
            target=target, real_view=self.keeper.view, wanted=self.match.wanted, bias=bias,
        )  # fmt: skip

    def _results(self, node: Node) -> list[Tensor | None]:
        used = (o and (o in self.match.readers or o in self.model.outputs) for o in node.outputs)
        return [
            self.tensors[o] if keep else None for o, keep in zip(node.outputs, used, strict=True)
        ]

    def _refuse_plain(self, site: Site) -> None:
        """Give up on float numbers and indices that no quantised tensor comes of: a runtime that
        computes them moves them too.
        """
        first = site.operand(0)
        if first.is_constant:
            return
        site.require(site.node not in self.match.floating, "only float operations read its result")
        if first.steps is not None:
            return
        kept = first.real.type.quantization if first.real is not None else None
        leads = any(o in self.match.leads for o in site.node.outputs)
        good = kept is not None or (leads and not first.from_runtime)
        site.require(good, f"moves {first.dtype.value}, which nothing quantises")

    def _reach(self, site: Site, view: View) -> None:
        """Take a result as the quantised tensor that it becomes."""
        target = site.goal
        names = [q.outputs[0] for q in target.quantisers] or [target.name]
        for name in names:
            tensor = self.tensors[name]
            tensor.real, tensor.shape = view, view.shape
            tensor.code = CODES[target.declared.dtype]
        self.done.update(target.quantisers)
        self.done.update(target.skipped)

    def _set_moved(self, out: Tensor, first: Tensor | None, view: View) -> None:
        """Take a result whose elements are those of an operand, or numbers without a scale."""
        out.shape = view.shape
        if first is not None and first.code == FLOAT and view.type.quantization is not None:
            out.steps, out.code = view, FLOAT
            return
        out.real = view
        same = first is not None and view.type.quantization is not None
        out.code = first.code if same and first is not None else CODES.get(view.type.dtype, 0)
        out.from_runtime = first is not None and first.from_runtime

    # Quantisers ------------------------------------------------------------------------------

    def _quantiser(self, node: Node) -> None:
        source, out = self.tensors[node.inputs[0]], self.tensors[node.outputs[0]]
        try:
            kind = self.match.parameters(node, source.shape)
        except ValueError as error:
            raise records.unread(node.where, str(error)) from error
        if kind.axis is not None or kind.dtype not in EIGHT_BIT:
            where = "per axis" if kind.axis is not None else f"to {kind.dtype.value}"
            raise records.unread(node.where, f"quantises {where}, must be to 8 bits per tensor")
        if node.kind == "QuantizeLinear":
            self._quantise(source, out, kind)
        else:
            self._dequantise(source, out, kind)

    def _dequantise(self, source: Tensor, out: Tensor, kind: QType) -> None:
        if source.dtype is not kind.dtype:
            raise records.unread(out.name, f"zero point is {kind.dtype.value}, must be"
                                 f" {source.dtype.value} as the input is")  # fmt: skip
        out.steps = self.keeper.as_held(self.keeper.view(source), kind)
        out.code, out.shape, out.source = FLOAT, source.shape, source.source

    def _quantise(self, source: Tensor, out: Tensor, kind: QType) -> None:
        held = self.match.sign.held(kind)
        like = records.typed(held)
        index = out.number if held == kind else -1
        if source.code not in (FLOAT, 0):
            raise records.unread(out.name, f"input is {source.dtype.value}, must be f32")
        if source.steps is not None and source.real is None:
            view = self._requantised(source.steps, like, out.name, index)
            out.source = source.source if view is source.steps else None
        elif source.function is not None and source.real is None:
            view = self._tabulated(source.function, held, out.name, index)
        else:
            real = self.keeper.view(source)
            type_ = dataclasses.replace(like, shape=real.value.shape)
            value = self.emitter.emit(
                ops.Quantize, out.name, type_, index, real.perm, input=real.value
            )
            view = View(value, real.perm)
        out.real, out.code, out.shape = view, CODES[kind.dtype], view.shape

    def _requantised(self, view: View, like: TensorType, name: str, index: int) -> View:
        if (view.type.dtype, view.type.quantization) == (like.dtype, like.quantization):
            return view
        if view.type.dtype is DType.INT32:
            raise records.unread(name, "requantises i32")
        type_ = dataclasses.replace(like, shape=view.value.shape)
        value = self.emitter.emit(ops.Quantize, name, type_, index, view.perm, input=view.value)
        return View(value, view.perm)

    def _tabulated(self, function: Function, held: QType, name: str, index: int) -> View:
        """Return what a function of a quantised tensor is in steps: a table of 256 bytes."""
        entries = records.quantised(function.numbers, held).tobytes()
        called = function.called[0].upper() if len(function.called) == 1 else "TABLE"
        type_ = records.typed(held, function.of.value.shape)
        value = self.emitter.emit(
            ops.Table, name, type_, index, function.of.perm, input=function.of.value,
            entries=entries, function=called,
        )  # fmt: skip
        return View(value, function.of.perm)
