"""Float .onnx files: quantised and run by ONNX Runtime."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.quantize.library import library, quiet, reported
from teflon.quantize.onnx_probe import OnnxProbe, bare_ports
from teflon.quantize.settings import AVERAGE, INT8, LEAST_RANGE, Settings
from teflon.quantize.tensors import NCHW, Input, Sample

RUNTIME = "onnxruntime"
_LIMIT = 1 << 31
"""Bytes that a protocol buffer may have: a larger model cannot be one file."""
_OPSET = 13
"""QuantizeLinear has an axis, which scales for each channel need, since this version."""
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits",
              "ConvInteger", "MatMulInteger")  # fmt: skip


class OnnxModel:
    """A float model that was read from an .onnx file."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        """Read a file and those with its weights.

        Raises TeflonError without the libraries, ModelError for a file that cannot be read or has
        8-bit operations already.
        """
        self.name = path.name
        self._onnx = library("onnx", "onnx")
        self._runtime = library("onnxruntime", RUNTIME)
        with reported(self.name, RUNTIME), quiet():
            self._model = self._onnx.load(str(path))
            self._onnx.checker.check_model(self._model)
        kinds = {node.op_type for node in self._model.graph.node}
        done = sorted(k for k in kinds if k in _QUANTIZED or k.startswith("QLinear"))
        if done:
            raise ModelError(f"{self.name}: has {done[0]}, must be a float model (it is quantised)")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What users pass; a size is None where the file leaves it open."""
        constants = {c.name for c in self._model.graph.initializer}
        ports = (i for i in self._model.graph.input if i.name not in constants)
        return tuple(self._input(port) for port in ports)

    def _input(self, port: Any) -> Input:
        kind = port.type.tensor_type
        if not port.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise ModelError(f"{self.name}: input {port.name!r} has no shape, must be a tensor")
        shape = tuple(
            d.dim_value if d.dim_value > 0 else None  # some writers mean an open size by -1
            for d in kind.shape.dim
        )
        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        return Input(port.name, shape, np.dtype(dtype), NCHW)

    def with_shapes(self, shapes: Mapping[str, Sequence[int]]) -> OnnxModel:
        """Return the model for these shapes of its inputs, simplified: NPUs need fixed shapes.

        Raises ModelError for shapes that it cannot take.
        """
        made = object.__new__(OnnxModel)
        made.__dict__.update(self.__dict__)
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        with reported(self.name, RUNTIME), quiet():
            _fix(model.graph, {i.name: shapes.get(i.name, i.shape) for i in self.inputs})
            made._model = self._simplified(model)
        return made

    def _simplified(self, model: Any) -> Any:
        """Return a model with constants folded, batch normalisation merged, all shapes known."""
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        if opset < _OPSET:
            model = self._onnx.version_converter.convert_version(model, _OPSET)
        shape_inference = library("onnxruntime.quantization.shape_inference", RUNTIME)
        with tempfile.TemporaryDirectory() as folder:
            before, after = f"{folder}/before.onnx", f"{folder}/after.onnx"
            self._onnx.save(model, before)
            shape_inference.quant_pre_process(before, after, skip_symbolic_shape=True)
            return self._onnx.load(after)

    def quantized(self, samples: Iterable[Sample], settings: Settings) -> bytes:
        """Return the 8-bit model, calibrated with the samples. Raises ModelError."""
        tools = library("onnxruntime.quantization", RUNTIME)
        kind = tools.QuantType.QInt8
        options = {
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "MinimumRealRange": LEAST_RANGE,
            "CalibMovingAverage": settings.range == AVERAGE,
        }
        feed = _reader(tools, samples)
        with reported(self.name, RUNTIME), tempfile.TemporaryDirectory() as folder:
            given, out = f"{folder}/float.onnx", f"{folder}/quantized.onnx"
            self._onnx.save(self._model, given)  # a model in memory would be changed
            with quiet(native=False):
                tools.quantize_static(
                    given, out, feed, quant_format=tools.QuantFormat.QDQ,
                    per_channel=not settings.per_tensor, activation_type=kind, weight_type=kind,
                    calibrate_method=tools.CalibrationMethod.MinMax, extra_options=options,
                )  # fmt: skip
            model = self._onnx.load(out)
        if settings.io == INT8:
            bare_ports(model)
        return self._bytes(model)

    def probe(self, content: bytes | None = None) -> OnnxProbe:
        """Return a probe of this model, or of a quantised one that was made of it."""
        model = self._onnx.ModelProto()
        if content is None:
            model.CopyFrom(self._model)
        else:
            model.ParseFromString(content)
        with reported(self.name, RUNTIME):
            return OnnxProbe(self._onnx, self._runtime, model)

    def _bytes(self, model: Any) -> bytes:
        if model.ByteSize() >= _LIMIT:
            raise ModelError(
                f"{self.name}: has {model.ByteSize()} bytes when quantised, must be below {_LIMIT}"
            )
        return bytes(model.SerializeToString())


def _fix(graph: Any, shapes: Mapping[str, Sequence[int | None]]) -> None:
    """Give inputs fixed shapes, and forget open sizes of everything else: they are inferred."""
    del graph.value_info[:]
    for port in graph.input:
        if port.name in shapes:
            for dim, size in zip(port.type.tensor_type.shape.dim, shapes[port.name], strict=True):
                dim.dim_value = size or 1
    for port in graph.output:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_value <= 0:
                dim.Clear()


def _reader(tools: Any, samples: Iterable[Sample]) -> Any:
    """Return samples as ONNX Runtime asks for them.

    The first one is taken here: a progress bar that shows itself then knows the real stderr.
    """
    source: Iterator[Sample] = iter(samples)
    first = list(itertools.islice(source, 1))

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Array] | None:
            found = first.pop() if first else next(source, None)
            return None if found is None else dict(found)

    return Reader()
