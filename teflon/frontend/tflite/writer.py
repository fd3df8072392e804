"""Write a graph as a .tflite file that TFLite runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import Table, finish, table
from teflon.frontend.tflite.variables import variable_tensors
from teflon.frontend.tflite.write_ops import Node, node_of
from teflon.frontend.tflite.write_states import RESOURCE, is_handle, stateful_nodes
from teflon.ir import Graph, Quantization, Value


def write(graph: Graph, *, description: str = "", signature: bool = True) -> bytes:
    """Return the file's bytes: one subgraph, shape operands and axes as constant tensors.

    States that operations keep in variable tensors become such tensors; others become variables,
    which a second subgraph fills once. `signature` adds a signature "serving_default" with the
    graph's input and output names. Raises ModelError for what the format cannot say: explicit
    padding that is neither SAME nor VALID, a clamp that no activation means, element types that the
    IR only carries, a variable tensor that others read beside the operation that changes it.
    """
    plain = [node_of(op) for op in graph.ops]
    tensors = variable_tensors(graph, [n.states for n in plain])
    nodes, filling = stateful_nodes(graph, plain, tensors)
    count = len(graph.states)
    inputs = graph.inputs[: len(graph.inputs) - count]
    outputs = graph.outputs[: len(graph.outputs) - count]
    file = _File([*nodes, *filling])
    main = _Subgraph(file, graph.name, inputs, outputs, nodes, tensors)
    others = [_Subgraph(file, "states", (), (), filling, {})] if filling else []
    root = table(
        "Model",
        version=schema.VERSION,
        operator_codes=file.operator_codes(),
        subgraphs=[part.table() for part in (main, *others)],
        description=description or None,
        buffers=file.buffers,
        signature_defs=[main.signature(graph)] if signature else None,
    )
    return finish(root, size=file.size + 512 * len(main.values) + 4096)


class _File:
    """What all subgraphs of a file share."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.codes = list(dict.fromkeys(node.code for node in nodes))
        self.buffers = [table("Buffer")]  # buffer 0 is empty by convention
        self.size = 0

    def operator_codes(self) -> list[Table]:
        return [
            table(
                "OperatorCode",
                deprecated_builtin_code=min(code.builtin, schema.PLACEHOLDER),
                builtin_code=code.builtin,
                custom_code=code.custom or None,
                version=code.version,
            )
            for code in self.codes
        ]

    def buffer(self, value: Value) -> int:
        if value.data is None:
            return 0
        flat = np.ascontiguousarray(value.data).reshape(-1).view(np.uint8)
        self.size += flat.nbytes + 64
        self.buffers.append(table("Buffer", data=flat))
        return len(self.buffers) - 1


class _Subgraph:
    """Numbers that the tables of one subgraph refer to each other by."""

    def __init__(
        self,
        file: _File,
        name: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        nodes: Sequence[Node],
        variables: Mapping[Value, Value],
    ) -> None:
        self.file = file
        self.name = name
        self.inputs, self.outputs, self.nodes = inputs, outputs, nodes
        mentioned = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None]
        self.variables = variables
        every = dict.fromkeys([*inputs, *variables.values(), *mentioned, *outputs])
        self.values = [v for v in every if variables.get(v, v) is v]
        self.number = {v: i for i, v in enumerate(self.values)}
        self.number |= {v: self.number[tensor] for v, tensor in variables.items()}
        self.tensors = [self._tensor(v) for v in self.values]

    def table(self) -> Table:
        return table(
            "SubGraph",
            name=self.name or None,
            tensors=self.tensors,
            inputs=self._numbers(self.inputs),
            outputs=self._numbers(self.outputs),
            operators=[self._operator(node) for node in self.nodes],
        )

    def signature(self, graph: Graph) -> Table:
        def names(values: Sequence[Value], words: Sequence[str]) -> list[Table]:
            return [
                table("TensorMap", name=word, tensor_index=self.number[value])
                for value, word in zip(values, words, strict=False)
            ]

        return table(
            "SignatureDef",
            inputs=names(self.inputs, graph.input_names),
            outputs=names(self.outputs, graph.output_names),
            signature_key="serving_default",
            subgraph_index=0,
        )

    def _numbers(self, values: Sequence[Value | None]) -> list[int]:
        return [-1 if v is None else self.number[v] for v in values]

    def _operator(self, node: Node) -> Table:
        options: dict[str, Any] = {}
        if node.options is not None:
            second = node.options.name in schema.BUILTIN_OPTIONS_2
            options["builtin_options_2" if second else "builtin_options"] = node.options
        if node.custom_options is not None:
            options["custom_options"] = np.frombuffer(node.custom_options, np.uint8)
        return table(
            "Operator",
            opcode_index=self.file.codes.index(node.code),
            inputs=self._numbers(node.inputs),
            outputs=self._numbers(node.outputs),
            **options,
        )

    def _tensor(self, value: Value) -> Table:
        code = RESOURCE if is_handle(value) else schema.TYPE_CODES.get(value.type.dtype)
        if code is None:
            raise ModelError(
                f"tensor {value.name!r}: element type is {value.type.dtype.value!r}, which this"
                " graph only carries; it must be one that the format and numpy share"
            )
        return table(
            "Tensor",
            shape=value.type.shape,
            type=code,
            buffer=self.file.buffer(value),
            name=value.name,
            quantization=_quantization(value.type.quantization),
            has_rank=True,
            is_variable=value in self.variables or None,
        )


def _quantization(q: Quantization | None) -> Table | None:
    if q is None:
        return None
    return table(
        "QuantizationParameters",
        scale=q.scales,
        zero_point=q.zero_points,
        quantized_dimension=q.axis or 0,
    )
