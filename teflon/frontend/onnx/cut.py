"""Cut a small model out of a file: the original nodes between some tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from teflon.errors import EncodingError
from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.types import CODES
from teflon.ir.graph import Cut, Graph, Origin, Value
from teflon.ir.types import Array, DType

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_MOST_BYTES = (1 << 31) - (1 << 16)
"""Beyond this protobuf cannot write a message."""


class OnnxOrigin(Origin):
    """The file of a graph. `names` are the tensors' names by number."""

    form = "onnx"

    def __init__(self, model: Model, folded: Mapping[str, Array]) -> None:
        self._model = model
        self._folded = folded
        self.names = tuple(model.numbers)
        self._makers: dict[str, Node] = {o: n for n in model.nodes for o in n.outputs if o}
        types = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        self._types = {v.name: v.type for v in types}

    def cut(self, graph: Graph) -> Cut:
        """Return a model of the nodes between a graph's inputs and its outputs.

        Weights of other files are inside. Raises EncodingError where the file has no such part.
        """
        try:
            return self._cut(graph)
        except UnicodeDecodeError as error:
            raise EncodingError(
                f"a name in it is no UTF-8 text: {error}", where=self._model.name
            ) from error

    def _cut(self, graph: Graph) -> Cut:
        inputs = [self._name(v) for v in graph.inputs]
        outputs = [self._name(v) for v in graph.outputs]
        nodes, constants = self._between(frozenset(inputs), outputs)
        made = {o for n in nodes for o in n.outputs}
        ends = zip(outputs, graph.outputs, strict=True)
        through = [(n, v) for n, v in ends if n not in made]
        if through:
            raise EncodingError(
                f"tensor {through[0][0]!r} is no result of this part", where=self._model.name
            )
        proto = self._proto(graph, nodes, constants)
        if proto.ByteSize() > _MOST_BYTES:
            raise EncodingError("a part of it has more than 2 GB", where=self._model.name)
        return Cut(proto.SerializeToString(), tuple(inputs), tuple(outputs))

    def _name(self, value: Value) -> str:
        if not 0 <= value.index < len(self.names):
            raise EncodingError(
                f"tensor {value.name!r} is not in the file as it is here", where=self._model.name
            )
        return self.names[value.index]

    def _between(
        self, inputs: frozenset[str], outputs: Sequence[str]
    ) -> tuple[list[Node], list[str]]:
        """Return the nodes, in the file's order, and the constants that they read."""
        found: dict[Node, None] = {}
        constants: dict[str, None] = {}
        todo = list(outputs)
        seen = set(inputs)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._model.initialisers or name in self._folded:
                constants[name] = None
                continue
            node = self._makers.get(name)
            if node is None:
                raise EncodingError(
                    f"it depends on {name!r}, which is no input of this part",
                    where=self._model.name,
                )
            found[node] = None
            todo += node.reads
        order = [n for n in self._model.nodes if n in found]
        return order, list(constants)

    def _proto(self, graph: Graph, nodes: Iterable[Node], constants: Iterable[str]) -> ModelProto:
        from onnx import ModelProto

        whole = self._model.proto
        proto = ModelProto(ir_version=max(whole.ir_version, 4), producer_name="teflon")
        proto.opset_import.extend(whole.opset_import)
        part = proto.graph
        part.name = graph.name or "part"
        for node in nodes:
            part.node.add().CopyFrom(node.proto)
        for name in constants:
            self._add_constant(part, name)
        for value in graph.inputs:
            part.input.append(self._info(value))
        for value in graph.outputs:
            part.output.append(self._info(value))
        return proto

    def _add_constant(self, part: Any, name: str) -> None:
        from onnx import TensorProto, numpy_helper

        tensor = self._model.initialisers.get(name)
        if tensor is None:
            part.initializer.append(numpy_helper.from_array(self._folded[name], name))
            return
        new = part.initializer.add()
        new.CopyFrom(tensor)
        if tensor.data_location == TensorProto.EXTERNAL:
            new.ClearField("external_data")
            new.ClearField("data_location")
            new.raw_data = self._model.array(name).tobytes()

    def _info(self, value: Value) -> ValueInfoProto:
        """Return the type of a tensor at the edge: the file's, in the shape that it has here."""
        from onnx import ValueInfoProto, helper

        name = self._name(value)
        said = self._types.get(name)
        if said is not None and (value.type.dtype is DType.OTHER or value.type.dynamic):
            info = ValueInfoProto(name=name)
            info.type.CopyFrom(said)
            return info
        if value.type.dtype is DType.OTHER:
            return ValueInfoProto(name=name)
        shape = None if value.type.dynamic else list(value.shape)
        return helper.make_tensor_value_info(name, CODES[value.type.dtype], shape)
