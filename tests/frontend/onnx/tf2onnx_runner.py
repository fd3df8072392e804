"""Run tf2onnx on a .tflite file without TensorFlow.

tf2onnx imports `tensorflow` at its top. To read a .tflite file it needs little of it: the
interpreter that tells the tensors' shapes (here ai-edge-litert's, the same code), raw bytes as an
array, an empty graph. The stand-in has that much; it refuses all else, so that no conversion can
depend on what is not there.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import Op, Value, ops
from teflon.ir.types import Array
from teflon.samples import models

AVAILABLE = all(importlib.util.find_spec(m) is not None for m in ("tf2onnx", "ai_edge_litert"))
needs_tf2onnx = pytest.mark.skipif(
    not AVAILABLE, reason="no tf2onnx and ai-edge-litert (pip install 'teflon-npu[dev]')"
)

_NUMPY = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 9: "i8", 10: "?", 17: "u2",
          19: "f2", 22: "u4", 23: "u8"}  # fmt: skip
"""TensorFlow's numbers of element types. Ref: tensorflow/core/framework/types.proto"""


class _Refusing(ModuleType):
    """A module or class of TensorFlow whose name may be mentioned; to call it raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Refusing(f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made

    def __call__(self, *args: object, **kwargs: object) -> Any:
        raise NotImplementedError(f"{self.__name__} is not there: TensorFlow is not installed")


class _Dims(list[SimpleNamespace]):
    def add(self) -> SimpleNamespace:
        self.append(SimpleNamespace(size=0))
        return self[-1]


class _Tensor:
    """Bytes, their element type and their shape, as tf2onnx fills them in."""

    def __init__(self) -> None:
        self.tensor_content, self.dtype = b"", 0
        self.tensor_shape = SimpleNamespace(dim=_Dims())


def _array(tensor: _Tensor) -> Array:
    """Return a tensor's array; one element stands for all, as in TensorFlow."""
    shape = [d.size for d in tensor.tensor_shape.dim]
    data = np.frombuffer(tensor.tensor_content, _NUMPY[tensor.dtype])
    return np.full(shape, data[0]) if data.size == 1 < math.prod(shape) else data.reshape(shape)


def _stand_ins() -> dict[str, ModuleType]:
    top: Any = _Refusing("tensorflow")
    top.__version__ = "2.19.0"
    top.__path__ = []
    top.device = nullcontext
    top.Graph = lambda: SimpleNamespace(as_default=nullcontext)  # stays empty
    top.lite.Interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    made: dict[str, ModuleType] = {"tensorflow": top}
    for package in ("core", "core.framework", "python", "python.framework"):
        made[f"tensorflow.{package}"] = module = ModuleType(f"tensorflow.{package}")
        module.__path__ = []
    made["tensorflow.core.framework"].tensor_pb2 = SimpleNamespace(TensorProto=_Tensor)  # type: ignore[attr-defined]
    made["tensorflow.python.framework"].tensor_util = SimpleNamespace(MakeNdarray=_array)  # type: ignore[attr-defined]
    made["tf2onnx.tfjs_utils"] = _Refusing("tf2onnx.tfjs_utils")  # reads TensorFlow.js
    return made


@contextmanager
def _tensorflow() -> Iterator[None]:
    """Put the stand-in where tf2onnx finds it, and take it away again with all that used it."""
    before = set(sys.modules)
    sys.modules.update(_stand_ins())
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("tensorflow", "tf2onnx"):
                del sys.modules[name]


def convert(content: bytes, opset: int = 17, **options: Any) -> onnx.ModelProto:
    """Return what tf2onnx makes of a .tflite file's content."""
    with _tensorflow(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        try:
            tf2onnx = importlib.import_module("tf2onnx.convert")
            made: onnx.ModelProto = tf2onnx.from_tflite(str(path), opset=opset, **options)[0]
        finally:
            logging.disable(logging.NOTSET)
    onnx.checker.check_model(made)
    return made


def flattened(name: str) -> bytes:
    """Return a shipped network as .tflite, with a RESHAPE before its fully connected layer.

    Without it tf2onnx writes the RESHAPE itself, and loses the layer's bias.
    """
    graph = read(Path(models.resolve(name)).read_bytes(), name)
    made: list[Op] = []
    for op in graph.ops:
        if isinstance(op, ops.FullyConnected) and op.input.type.rank != 2:
            shape = (op.input.shape[0], op.weights.shape[1])
            flat = Value("flat", replace(op.input.type, shape=shape))
            made += [ops.Reshape(input=op.input, output=flat), replace(op, input=flat)]
        else:
            made.append(op)
    return write(graph.with_ops(made))
