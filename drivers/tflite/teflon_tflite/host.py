"""Small models in the interpreter of a TFLite runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from teflon.ir.graph import Cut
from teflon.ir.types import Array
from teflon.pipe import Data
from teflon_common.hosted.host import Host, HostError, Name, Session, tensors
from teflon_tflite import inner
from teflon_tflite.child import CHILD, PATIENCE, SECONDS, Absent, Crash, Late

_FAILURES = (ValueError, RuntimeError)
_HELD = (np.object_,)
"""What the interpreter calls the type of resources, which cannot be read."""


class TfliteHost(Host):
    """A runtime by its package, with its kernels and threads."""

    def __init__(self, runtime: str, *, fast: bool, threads: int) -> None:
        self.runtime = runtime
        self.fast = fast
        self.threads = threads

    def open(self, content: Data, inputs: Sequence[Name], outputs: Sequence[Name]) -> Session:
        try:
            opened = inner.open_model(self.runtime, bytes(content), self.fast, self.threads)
            opened.allocate_tensors()
            return TfliteSession(opened, inputs, outputs)
        except ImportError as error:
            raise HostError(f"package {self.runtime} cannot be imported: {error}") from error
        except _FAILURES as error:
            raise HostError(inner.words(error)) from error

    def complaint(self, cut: Cut, odd: bool) -> str:
        if problem := self._tried(cut, odd):
            return problem
        try:
            self.open(cut.content, tensors(cut.inputs), tensors(cut.outputs))
        except HostError as error:
            return str(error)
        return ""

    def _tried(self, cut: Cut, odd: bool) -> str:
        """Try a model in another process. One that is not odd may be too slow for that."""
        request = {"runtime": self.runtime, "fast": self.fast}
        try:
            found = CHILD.ask(request, cut.content, SECONDS if odd else PATIENCE)
        except (Late, Absent) as none:
            return str(none) if odd else ""
        except Crash as crash:
            return str(crash)
        return str(found["problem"])


class TfliteSession(Session):
    """An interpreter with allocated tensors."""

    def __init__(self, opened: Any, inputs: Sequence[Name], outputs: Sequence[Name]) -> None:
        self._opened = opened
        details = {d["index"]: d for d in opened.get_tensor_details()}
        for number in (*inputs, *outputs):
            if number not in details:
                raise ValueError(f"tensor {number} is not in the model")
        self._inputs = [int(n) for n in inputs]
        self._outputs = [int(n) for n in outputs]
        self._held = {n for n in (*self._inputs, *self._outputs) if details[n]["dtype"] in _HELD}
        self._shapes = {n: tuple(int(d) for d in details[n]["shape"]) for n in self._inputs}
        self._resizable = {int(d["index"]) for d in opened.get_input_details()}
        self._texts = {n for n in self._inputs if details[n]["dtype"] in (np.bytes_, np.str_)}

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            self._resize(inputs)
            for number, array in zip(self._inputs, inputs, strict=True):
                if number not in self._held:
                    self._opened.set_tensor(number, self._given(number, array))
            self._opened.invoke()
            return [self._result(number) for number in self._outputs]
        except _FAILURES as error:
            raise HostError(inner.words(error)) from error

    def _given(self, number: int, array: Array) -> Array:
        if number in self._texts and array.dtype.kind == "U":
            return np.char.encode(array, "utf-8")
        return np.ascontiguousarray(array).reshape(array.shape)

    def _resize(self, inputs: Sequence[Array]) -> None:
        changed = False
        for number, array in zip(self._inputs, inputs, strict=True):
            if number in self._resizable and array.shape != self._shapes[number]:
                self._opened.resize_tensor_input(number, array.shape)
                self._shapes[number] = array.shape
                changed = True
        if changed:
            self._opened.allocate_tensors()

    def _result(self, number: int) -> Array:
        if number in self._held:
            return np.zeros(0, np.uint8)
        found: Array = np.asarray(self._opened.get_tensor(number))
        return found
