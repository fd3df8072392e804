"""Write a graph as a .tflite file that TFLite runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import Table, finish, table
from teflon.frontend.tflite.variables import variable_tensors
from teflon.frontend.tflite.write_ops import Node, node_of
from teflon.ir import Graph, Quantization, Value


def write(graph: Graph, *, description: str = "", signature: bool = True) -> bytes:
    """Return the file's bytes: one subgraph, shape operands and axes as constant tensors.

    `signature` adds a signature "serving_default" with the graph's input and output names. Raises
    ModelError for what the format cannot say: explicit padding that is neither SAME nor VALID, a
    clamp that no activation means, element types that the IR only carries, a state that others read
    beside the operation that changes it. States that operations keep in variable tensors become
    such tensors; other states become inputs and outputs.
    """
    nodes = [node_of(op) for op in graph.ops]
    file = _File(graph, nodes)
    root = table(
        "Model",
        version=schema.VERSION,
        operator_codes=file.operator_codes(),
        subgraphs=[file.subgraph()],
        description=description or None,
        buffers=file.buffers,
        signature_defs=[file.signature()] if signature else None,
    )
    constants = sum(v.data.nbytes + 64 for v in file.values if v.data is not None)
    return finish(root, size=constants + 512 * len(file.values) + 4096)


class _File:
    """Numbers that the tables refer to each other by."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self.graph = graph
        self.nodes = nodes
        self.variables = variable_tensors(graph, [n.states for n in nodes])
        hidden = self.variables.keys()
        self.inputs = _visible(graph.inputs, graph.input_names, hidden)
        self.outputs = _visible(graph.outputs, graph.output_names, hidden)
        mentioned = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None]
        every = dict.fromkeys([*graph.inputs, *mentioned, *graph.outputs])
        self.values = [v for v in every if self.variables.get(v, v) is v]
        self.number = {v: i for i, v in enumerate(self.values)}
        self.number |= {v: self.number[tensor] for v, tensor in self.variables.items()}
        self.codes = list(dict.fromkeys(node.code for node in nodes))
        self.buffers = [table("Buffer")]  # buffer 0 is empty by convention
        self.tensors = [self._tensor(v) for v in self.values]

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

    def subgraph(self) -> Table:
        return table(
            "SubGraph",
            name=self.graph.name or None,
            tensors=self.tensors,
            inputs=self._numbers([v for v, _ in self.inputs]),
            outputs=self._numbers([v for v, _ in self.outputs]),
            operators=[self._operator(node) for node in self.nodes],
        )

    def signature(self) -> Table:
        def names(ports: Sequence[tuple[Value, str]]) -> list[Table]:
            return [
                table("TensorMap", name=word, tensor_index=self.number[value])
                for value, word in ports
            ]

        return table(
            "SignatureDef",
            inputs=names(self.inputs),
            outputs=names(self.outputs),
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
            opcode_index=self.codes.index(node.code),
            inputs=self._numbers(node.inputs),
            outputs=self._numbers(node.outputs),
            **options,
        )

    def _tensor(self, value: Value) -> Table:
        if value.type.dtype not in schema.TYPE_CODES:
            raise ModelError(
                f"tensor {value.name!r}: element type is {value.type.dtype.value!r}, which this"
                " graph only carries; it must be one that the format and numpy share"
            )
        return table(
            "Tensor",
            shape=value.type.shape,
            type=schema.TYPE_CODES[value.type.dtype],
            buffer=self._buffer(value),
            name=value.name,
            quantization=_quantization(value.type.quantization),
            has_rank=True,
            is_variable=value in self.variables or None,
        )

    def _buffer(self, value: Value) -> int:
        if value.data is None:
            return 0
        flat = np.ascontiguousarray(value.data).reshape(-1).view(np.uint8)
        self.buffers.append(table("Buffer", data=flat))
        return len(self.buffers) - 1


def _visible(
    values: Sequence[Value], names: Sequence[str], hidden: Collection[Value]
) -> list[tuple[Value, str]]:
    return [(v, name) for v, name in zip(values, names, strict=True) if v not in hidden]


def _quantization(q: Quantization | None) -> Table | None:
    if q is None:
        return None
    return table(
        "QuantizationParameters",
        scale=q.scales,
        zero_point=q.zero_points,
        quantized_dimension=q.axis or 0,
    )
