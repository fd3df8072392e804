"""Makes a .tflite file what ai-edge-quantizer takes: float32 weights, one signature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.quantize.library import library

_RUNTIME = "ai-edge-litert"
_SIGNATURE = "serving_default"
_HYBRID = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
"""Operations that may have float inputs and integer weights, as operand 1."""


def restored(content: bytes, name: str) -> tuple[bytes, str]:
    """Return the file with float32 weights and a signature, and the signature's name.

    The content stays as it is where nothing is to do. Constants of float16 or integers that are
    converted to float, and integer weights of float operations (dynamic range), become float32.
    Raises ModelError, which begins with the model's name, for several signatures.
    """
    tools = library("ai_edge_litert.tools.flatbuffer_utils", _RUNTIME)
    schema = library("ai_edge_litert.schema_py_generated", _RUNTIME)
    model = tools.read_model_from_bytearray(bytearray(content))
    file = _File(model, schema)
    changed = file.unpack_constants() + file.unpack_weights()
    signature, added = file.one_signature(name)
    if not changed and not added:
        return content, signature
    return bytes(tools.convert_object_to_bytearray(model)), signature


def with_own_outputs(content: bytes) -> bytes:
    """Return a file with one signature none of whose outputs is read inside.

    Such an output gets a tensor of its own, by a RESHAPE that changes nothing. Otherwise
    ai-edge-quantizer (0.10) hands the float output to the 8-bit operations that read it.
    """
    tools = library("ai_edge_litert.tools.flatbuffer_utils", _RUNTIME)
    schema = library("ai_edge_litert.schema_py_generated", _RUNTIME)
    model = tools.read_model_from_bytearray(bytearray(content))
    if not _File(model, schema).part_outputs():
        return content
    return bytes(tools.convert_object_to_bytearray(model))


class _File:
    """A model as the objects of its schema, while they are changed."""

    def __init__(self, model: Any, schema: Any) -> None:
        self.model = model
        self.schema = schema
        self.main = model.subgraphs[0]
        numbers = vars(schema.BuiltinOperator)
        names = {v: k for k, v in numbers.items() if isinstance(v, int)}
        self.names = [
            names.get(max(c.builtinCode, c.deprecatedBuiltinCode), "")
            for c in model.operatorCodes or ()
        ]
        types = vars(schema.TensorType)
        self.types = {v: k for k, v in types.items() if isinstance(v, int)}

    def unpack_constants(self) -> int:
        """Replace each DEQUANTIZE of a constant by its result; return how many there were."""
        kept, before = [], len(self.main.operators)
        for op in self.main.operators:
            if self.names[op.opcodeIndex] == "DEQUANTIZE":
                values = self._values(self.main.tensors[op.inputs[0]])
                if values is not None:
                    self._set(self.main.tensors[op.outputs[0]], values)
                    continue
            kept.append(op)
        self.main.operators = kept
        return before - len(kept)

    def unpack_weights(self) -> int:
        """Make integer weights of float operations float32; return how many there were."""
        found = list(self._hybrid())
        for tensor in found:
            values = self._values(tensor)
            if values is not None and tensor.type != self.schema.TensorType.FLOAT32:
                self._set(tensor, values)
        return len(found)

    def _hybrid(self) -> Iterator[Any]:
        for op in self.main.operators:
            if self.names[op.opcodeIndex] not in _HYBRID:
                continue
            made = self.main.tensors[op.outputs[0]]
            weights = self.main.tensors[op.inputs[1]]
            real = made.type == self.schema.TensorType.FLOAT32
            if real and weights.type != made.type and weights.quantization is not None:
                yield weights

    def _values(self, tensor: Any) -> Array | None:
        """Return a constant as float32; None for what is no constant or of another type."""
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0 or tensor.sparsity is not None:
            return None
        raw, kind = np.frombuffer(bytes(data), np.uint8), self.types.get(tensor.type, "")
        if kind == "FLOAT16":
            return raw.view(np.float16).astype(np.float32)
        if kind not in ("INT8", "UINT8"):
            return None
        return _real(raw.view(kind.lower()).astype(np.int32), tensor)

    def _set(self, tensor: Any, values: Array) -> None:
        """Give a tensor float32 data of its own."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        tensor.buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        tensor.type = self.schema.TensorType.FLOAT32
        tensor.quantization = None

    def part_outputs(self) -> int:
        """Give each float output that is read inside a copy; return how many there were."""
        read = {int(n) for op in self.main.operators for n in op.inputs}
        real = self.schema.TensorType.FLOAT32
        shared = [n for n in self.main.outputs if n in read and self.main.tensors[n].type == real]
        for number in dict.fromkeys(int(n) for n in shared):
            copy = self._copy(number)
            self.main.outputs = [copy if n == number else n for n in self.main.outputs]
            for port in self.model.signatureDefs[0].outputs:
                port.tensorIndex = copy if port.tensorIndex == number else port.tensorIndex
        return len(shared)

    def _copy(self, number: int) -> int:
        """Append a RESHAPE of a tensor to its own shape; return the number of the result."""
        source, shape = self.main.tensors[number], self._shape_of(number)
        made = self._tensor(_text(source.name) + "_output", source.type, source.shape)
        op = self.schema.OperatorT()
        op.opcodeIndex = self._code(self.schema.BuiltinOperator.RESHAPE)
        op.inputs, op.outputs = [number, shape], [made]
        self.main.operators.append(op)
        return made

    def _shape_of(self, number: int) -> int:
        source = self.main.tensors[number]
        made = self._tensor(
            _text(source.name) + "_shape", self.schema.TensorType.INT32, [len(source.shape)]
        )
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.asarray(source.shape, "<i4").tobytes(), np.uint8)
        self.main.tensors[made].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return made

    def _tensor(self, name: str, kind: int, shape: Any) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.type, tensor.shape = name, kind, [int(n) for n in shape]
        tensor.buffer = 0
        self.main.tensors.append(tensor)
        return len(self.main.tensors) - 1

    def _code(self, builtin: int) -> int:
        """Return the number of an operator code, which is appended if it is not there."""
        for number, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
                return number
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def one_signature(self, model: str) -> tuple[str, bool]:
        """Return the name of the signature of subgraph 0, and whether it had to be made."""
        signatures = self.model.signatureDefs or []
        if len(signatures) > 1:
            names = ", ".join(_text(s.signatureKey) for s in signatures)
            raise ModelError(
                f"{model}: has {len(signatures)} signatures ({names}), must have one (convert each"
                " of them to a file of its own)"
            )
        if signatures:
            return _text(signatures[0].signatureKey), False
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = _SIGNATURE, 0
        made.inputs = self._ports(self.main.inputs)
        made.outputs = self._ports(self.main.outputs)
        self.model.signatureDefs = [made]
        return _SIGNATURE, True

    def _ports(self, numbers: Any) -> list[Any]:
        found, seen = [], set[str]()
        for number in numbers:
            port = self.schema.TensorMapT()
            wish = name = _text(self.main.tensors[number].name) or f"tensor{number}"
            count = 1
            while name in seen:
                count += 1
                name = f"{wish}_{count}"
            seen.add(name)
            port.name, port.tensorIndex = name, int(number)
            found.append(port)
        return found


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


def _real(stored: Array, tensor: Any) -> Array | None:
    """Return scale * (q - zero point); None where the quantisation is not affine."""
    how = tensor.quantization
    if how is None or how.details is not None or how.scale is None or not len(how.scale):
        return None
    shape = tuple(int(n) for n in tensor.shape)
    scale = np.asarray(how.scale, np.float32)
    zero = np.zeros(len(scale), np.int32) if how.zeroPoint is None else np.asarray(how.zeroPoint)
    along = [1] * len(shape)
    if len(scale) > 1:
        along[how.quantizedDimension] = len(scale)
    centred = stored.reshape(shape) - (
        zero.reshape(along) if len(zero) > 1 else zero.reshape(-1)[:1]
    )
    return centred.astype(np.float32) * scale.reshape(along if shape else ())
