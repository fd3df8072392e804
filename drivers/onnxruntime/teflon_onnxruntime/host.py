"""Small models in sessions of ONNX Runtime."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from teflon.ir.graph import Cut
from teflon.ir.types import Array
from teflon.pipe import Data
from teflon_common.hosted.host import Host, HostError, Name, Session

FATAL = 4
"""The only severity that is printed."""

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_UNKNOWN = re.compile(r"(?:Fatal error: )?(\S+?)\(-?\d+\) is not a registered function/op")


class OnnxRuntimeHost(Host):
    """The runtime with its optimisations and threads.

    `fast` allows all optimisations; else operations are computed one by one as the file has them,
    so that a part gives the same bits alone and within its model.
    """

    def __init__(self, *, fast: bool, threads: int) -> None:
        self.fast = fast
        self.threads = threads

    def open(self, content: Data, inputs: Sequence[Name], outputs: Sequence[Name]) -> Session:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except Exception as error:
            raise HostError(f"package onnxruntime cannot be imported: {error}") from error
        try:
            opened = runtime.InferenceSession(
                bytes(content), self._settings(runtime), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base but this one
            raise HostError(words(error)) from error
        return OnnxRuntimeSession(runtime, opened, inputs, outputs)

    def _settings(self, runtime: Any) -> Any:
        settings = runtime.SessionOptions()
        levels = runtime.GraphOptimizationLevel
        level = levels.ORT_ENABLE_ALL if self.fast else levels.ORT_DISABLE_ALL
        settings.graph_optimization_level = level
        settings.use_deterministic_compute = not self.fast
        settings.intra_op_num_threads = self.threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        settings.log_severity_level = FATAL
        return settings

    def complaint(self, cut: Cut, odd: bool) -> str:
        try:
            self.open(cut.content, cut.inputs, cut.outputs)
        except HostError as error:
            return str(error)
        return ""


class OnnxRuntimeSession(Session):
    """A session and the names that are given and asked for."""

    def __init__(
        self, runtime: Any, opened: Any, inputs: Sequence[Name], outputs: Sequence[Name]
    ) -> None:
        self._opened = opened
        self._inputs = [str(name) for name in inputs]
        self._outputs = [str(name) for name in outputs]
        self._wanted = {port.name for port in opened.get_inputs()}
        made = {port.name for port in opened.get_outputs()}
        for name in self._outputs:
            if name not in made:
                raise HostError(f"the model has no output {name!r}")
        self._run_options = runtime.RunOptions()
        self._run_options.log_severity_level = FATAL

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        given = {n: a for n, a in zip(self._inputs, inputs, strict=True) if n in self._wanted}
        try:
            found = self._opened.run(self._outputs, given, self._run_options)
        except Exception as error:  # its errors have no common base but this one
            raise HostError(words(error)) from error
        return [self._owned(name, a, inputs) for name, a in zip(self._outputs, found, strict=True)]

    def _owned(self, name: str, found: Any, inputs: Sequence[Array]) -> Array:
        if not isinstance(found, np.ndarray):
            raise HostError(f"output {name!r} is a {type(found).__name__}, must be a tensor")
        shared = any(np.may_share_memory(found, given) for given in inputs)
        return np.array(found) if shared or not found.flags.writeable else found


def words(error: Exception) -> str:
    """Return what the runtime says, in one line."""
    line = _PREFIX.sub("", " ".join(str(error).split())) or type(error).__name__
    unknown = _UNKNOWN.search(line)
    if unknown:
        return f"onnxruntime has no operation {unknown[1]!r}"
    return f"onnxruntime refuses it: {line.rstrip(' .')}"
