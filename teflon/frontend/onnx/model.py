"""An ONNX file as records: nodes in order, constants, inputs, outputs.

The file's bytes are not trusted. What the reader relies on is checked here: whatever is wrong is a
ModelError that says where.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.onnx.external import external_bytes, take_in
from teflon.frontend.onnx.types import DTYPES, dtype_of, shape_problem
from teflon.ir.types import Array, DType
from teflon.pipe import Data, mistaken_for

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OLDEST_OPSET = 7
"""What older files mean by their attributes differs too much: consumed inputs, broadcast flags."""

_DEEPEST = 64


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the graph; `captures` are outer tensors that its subgraphs read."""

    number: int
    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captures: tuple[str, ...]
    proto: NodeProto

    @property
    def where(self) -> str:
        """The user's name for this node."""
        return self.proto.name or next((o for o in self.outputs if o), "") or str(self.number)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every tensor that it needs, each once."""
        return tuple(dict.fromkeys(n for n in (*self.inputs, *self.captures) if n))

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes by name as plain Python values; one that cannot be read is left out."""
        from onnx import helper

        found: dict[str, Any] = {}
        for attribute in self.proto.attribute:
            try:
                value = helper.get_attribute_value(attribute)
            except (ValueError, TypeError):
                continue
            if isinstance(value, bytes):
                value = value.decode(errors="replace")
            found[attribute.name] = value
        return found


def load(data: Data, name: str) -> ModelProto:
    """Return the parsed file. Raises ModelError."""
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            f"{name}: reading ONNX needs the package onnx, which is not installed"
            " (pip install 'teflon-npu[onnx]')"
        ) from error
    content = bytes(data)
    try:
        proto: ModelProto = onnx.ModelProto.FromString(content)
    except Exception as error:  # the parser's own exception type depends on protobuf's version
        meant = mistaken_for(content[:64])
        hint = f" (this is {meant})" if meant else ""
        raise ModelError(f"{name}: cannot be parsed, must be an ONNX model{hint}") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{name}: has no graph, must be an ONNX model")
    return proto


class Model:
    """A parsed file, checked and in order. Local functions are inlined."""

    def __init__(self, data: Data, name: str, folder: str | None) -> None:
        self.name = name
        self.folder = folder
        self.proto = _inlined(load(data, name), name)
        self.graph = self.proto.graph
        take_in(self.graph, name, folder)
        self.opsets = self._opsets()
        self.initialisers = self._initialisers()
        self.inputs = [v for v in self.graph.input if v.name not in self.initialisers]
        self.outputs = [v.name for v in self.graph.output]
        self._check_ends()
        self.nodes = self._ordered([self._node(n, p) for n, p in enumerate(self.graph.node)])
        self.numbers = {n: i for i, n in enumerate(self._names())}
        self._arrays: dict[str, Array] = {}

    def fail(self, place: str, problem: str) -> NoReturn:
        raise ModelError(f"{self.name}: {place}: {problem}")

    @property
    def opset(self) -> int:
        return self.opsets.get("", 0)

    # Checks ----------------------------------------------------------------------------------

    def _opsets(self) -> dict[str, int]:
        from onnx import defs

        found: dict[str, int] = {}
        for row in self.proto.opset_import:
            found["" if row.domain == "ai.onnx" else row.domain] = row.version
        newest = defs.onnx_opset_version()
        version = found.get("", newest)
        if not OLDEST_OPSET <= version <= newest:
            self.fail(
                "opset_import",
                f"opset is {version}, must be {OLDEST_OPSET} to {newest} (export the model again,"
                " or install a newer package onnx)",
            )
        found.setdefault("", newest)
        return found

    def _initialisers(self) -> dict[str, TensorProto]:
        if self.graph.sparse_initializer:
            name = self.graph.sparse_initializer[0].values.name
            self.fail(f"initialiser {name!r}", "is sparse, must be dense")
        found: dict[str, TensorProto] = {}
        for tensor in self.graph.initializer:
            place = f"initialiser {tensor.name!r}"
            if not tensor.name or tensor.name in found:
                self.fail(place, "has the name of another one, must have its own")
            if problem := shape_problem(tensor.dims):
                self.fail(place, problem)
            found[tensor.name] = tensor
        return found

    def _check_ends(self) -> None:
        seen: set[str] = set()
        for value in self.inputs:
            place = f"input {value.name!r}"
            if not value.name or value.name in seen:
                self.fail(place, "has the name of another one, must have its own")
            seen.add(value.name)
            if value.type.WhichOneof("value") != "tensor_type":
                kind = (value.type.WhichOneof("value") or "nothing").removesuffix("_type")
                self.fail(place, f"is a {kind}, must be a tensor")
        if not self.outputs:
            self.fail("graph", "has no outputs, must have one or more")
        if len(set(self.outputs)) != len(self.outputs):
            self.fail("outputs", "have one name twice, must have one each")

    def _node(self, number: int, proto: NodeProto) -> Node:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        captures = tuple(dict.fromkeys(_captures(proto)))
        return Node(
            number, proto.op_type, domain, tuple(proto.input), tuple(proto.output), captures, proto
        )

    def _ordered(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Return the nodes that outputs depend on, each after those that it reads."""
        made: dict[str, Node] = {}
        ends = {v.name for v in self.inputs} | set(self.initialisers)
        for node in nodes:
            for name in filter(None, node.outputs):
                if name in made or name in ends:
                    self.fail(self._place(node), f"makes {name!r}, which exists already")
                made[name] = node
        for name in self.outputs:
            if name not in made and name not in ends:
                self.fail(f"output {name!r}", "nothing makes it, must be made by a node")
        return self._sorted(made, ends)

    def _sorted(self, made: dict[str, Node], ends: set[str]) -> tuple[Node, ...]:
        order: list[Node] = []
        state: dict[Node, bool] = {}  # whether all of what it reads is done
        todo = [made[name] for name in reversed(self.outputs) if name in made]
        while todo:
            node = todo[-1]
            if node in state:
                todo.pop()
                if not state[node]:
                    state[node] = True
                    order.append(node)
                continue
            state[node] = False
            for name in reversed(node.reads):
                if name in ends:
                    continue
                source = made.get(name)
                if source is None:
                    self.fail(self._place(node), f"reads {name!r}, which nothing makes")
                if source not in state:
                    todo.append(source)
                elif not state[source]:
                    self.fail(self._place(node), f"reads {name!r}, which waits for its own result")
        return _in_file_order(order)

    def _place(self, node: Node) -> str:
        return f"node {node.kind} {node.where!r}"

    def _names(self) -> Iterator[str]:
        names = [v.name for v in self.inputs]
        names += list(self.initialisers)
        names += [o for p in self.graph.node for o in p.output if o]
        return iter(dict.fromkeys(names))

    # Constants -------------------------------------------------------------------------------

    def array(self, name: str) -> Array:
        """Return an initialiser's content, read only; its bytes where numpy has no such type."""
        if name not in self._arrays:
            place = f"initialiser {name!r}"
            found = self.to_array(self.initialisers[name], place)
            found.flags.writeable = False
            self._arrays[name] = found
        return self._arrays[name]

    def to_array(self, tensor: TensorProto, place: str) -> Array:
        """Return a constant's content. Raises ModelError where it is not what its type says."""
        from onnx import TensorProto, numpy_helper

        if problem := shape_problem(tensor.dims):
            self.fail(place, problem)
        shape = tuple(tensor.dims)
        dtype = dtype_of(tensor.data_type)
        if tensor.data_location == TensorProto.EXTERNAL:
            raw = external_bytes(tensor, f"{self.name}: {place}", self.folder)
            return self._from_raw(raw, dtype, shape, place)
        if tensor.HasField("raw_data"):
            raw = np.frombuffer(tensor.raw_data, np.uint8)
            return self._from_raw(raw, dtype, shape, place)
        if dtype is DType.OTHER:
            return np.zeros(0, np.uint8)
        try:
            found = numpy_helper.to_array(tensor)
        except Exception as error:  # it goes by fields that may contradict each other
            self.fail(place, f"has no content of its type and shape {list(shape)} ({error})")
        if found.dtype != dtype.numpy or found.shape != shape:
            self.fail(place, f"has no content of its type and shape {list(shape)}")
        return np.ascontiguousarray(found).reshape(shape)

    def _from_raw(self, raw: Array, dtype: DType, shape: tuple[int, ...], place: str) -> Array:
        if dtype is DType.OTHER:
            return raw
        want = int(np.prod(shape, dtype=object)) * dtype.numpy.itemsize
        if raw.nbytes != want:
            self.fail(
                place,
                f"has {raw.nbytes} bytes, must have {want} for {dtype.value}{list(shape)}",
            )
        if dtype is DType.BOOL:
            return np.asarray(raw != 0).reshape(shape)
        stored = raw.view(dtype.numpy.newbyteorder("<"))
        return stored.astype(dtype.numpy, copy=False).reshape(shape)


def _in_file_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return nodes that are in a possible order as the file has them, if that is one too."""
    given = sorted(nodes, key=lambda node: node.number)
    place = {name: node.number for node in given for name in node.outputs}
    good = all(place.get(name, -1) < node.number for node in given for name in node.reads)
    return tuple(given if good else nodes)


def _captures(proto: NodeProto) -> Iterator[str]:
    """Yield the names that subgraphs of a node read from outside of them."""
    for attribute in proto.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            inside = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            for node in graph.node:
                yield from (n for n in (*node.input, *_captures(node)) if n and n not in inside)
                inside.update(node.output)
            yield from (v.name for v in graph.output if v.name not in inside)


def _inlined(proto: ModelProto, name: str) -> ModelProto:
    """Return a model without local functions."""
    if not proto.functions:
        return proto
    _refuse_recursion(proto, name)
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # a message of the C++ library
        text = str(error).strip().splitlines()[0] if str(error).strip() else "it is malformed"
        raise ModelError(f"{name}: a local function cannot be inlined: {text}") from error


def _refuse_recursion(proto: ModelProto, name: str) -> None:
    """Raise ModelError where a local function calls itself: the inliner would never end."""
    calls = {
        (f.domain, f.name): {(n.domain, n.op_type) for n in _all_nodes(f.node)}
        for f in proto.functions
    }

    try:
        order = tuple(graphlib.TopologicalSorter(calls).static_order())
    except graphlib.CycleError:
        raise ModelError(f"{name}: a local function calls itself, must not") from None
    depth: dict[tuple[str, str], int] = {}
    for key in order:
        depth[key] = 1 + max((depth[k] for k in calls.get(key, ())), default=0)
    if max(depth.values()) > _DEEPEST:
        raise ModelError(f"{name}: local functions call each other more than {_DEEPEST} deep")


def _all_nodes(nodes: Any) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            graphs = (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
            for graph in graphs:
                yield from _all_nodes(graph.node)


__all__ = ["DTYPES", "Model", "Node", "load"]
