"""TFLite's reference kernels, the one place where the tests import a TFLite runtime.

The reference resolver is the oracle: the default one applies XNNPACK, which rounds differently.
Operators that it lacks (ELU, TILE and DEPTH_TO_SPACE of int8) come from the default one without
XNNPACK, and so do weights with a scale for each block, for which it gives zeros.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.ir.types import Array

AVAILABLE = importlib.util.find_spec("ai_edge_litert") is not None
needs_oracle = pytest.mark.skipif(
    not AVAILABLE, reason="no TFLite runtime (pip install 'teflon-npu[reference]')"
)
"""Mark of tests that compare with the reference kernels."""


def in_reference_kernels(kinds: Any, opened: Callable[[Any], Any]) -> Any:
    """Return what `opened` returns for the first kind of kernels that has all operators."""
    try:
        found = opened(kinds.BUILTIN_REF)
    except ValueError as error:
        if "Didn't find op" not in str(error):
            raise
        return opened(kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    details = found.get_tensor_details()
    if any(detail["quantization_parameters"].get("block_size") for detail in details):
        return opened(kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return found


class Oracle:
    """One model in TFLite's reference kernels, single threaded.

    With `preserve` every intermediate tensor can be read after `run`. Skips the calling test where
    no TFLite runtime is installed. Raises ValueError or RuntimeError where TFLite refuses a model.
    """

    def __init__(self, model: bytes | str | Path, *, preserve: bool = False) -> None:
        if not AVAILABLE:
            pytest.skip("no TFLite runtime (pip install 'teflon-npu[reference]')")
        litert = importlib.import_module("ai_edge_litert.interpreter")
        content = model if isinstance(model, bytes) else Path(model).read_bytes()

        def opened(kernels: Any) -> Any:
            return litert.Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=kernels,
                experimental_preserve_all_tensors=preserve,
            )

        self._interpreter: Any = in_reference_kernels(litert.OpResolverType, opened)
        self._interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Return every output for inputs in the model's order, or by tensor name."""
        for place, detail in enumerate(self.inputs):
            value = inputs[detail["name"]] if isinstance(inputs, Mapping) else inputs[place]
            self._interpreter.set_tensor(detail["index"], np.asarray(value, order="C"))
        self._interpreter.invoke()
        return [self.tensor(detail["index"]) for detail in self.outputs]

    def tensor(self, index: int) -> Array:
        """Return a copy of a tensor by its number in the file."""
        return np.asarray(self._interpreter.get_tensor(index))

    def tensors(self) -> dict[int, Array]:
        """Return all tensors that can be read, by their number in the file."""
        found: dict[int, Array] = {}
        for detail in self._interpreter.get_tensor_details():
            if detail["dtype"] is np.object_:  # a resource: reading one ends the process
                continue
            try:
                found[detail["index"]] = self.tensor(detail["index"])
            except ValueError:  # a tensor without data: an unused optional one, a temporary
                continue
        return found

    def signatures(self) -> dict[str, dict[str, list[str]]]:
        """Return the names that the model gives its inputs and outputs, by signature."""
        found: dict[str, dict[str, list[str]]] = self._interpreter.get_signature_list()
        return found

    def random_inputs(self, seed: int = 0) -> list[Array]:
        """Return reproducible inputs of the right types over their whole range."""
        rng = np.random.default_rng(seed)
        return [_random(rng, detail["shape"], detail["dtype"]) for detail in self.inputs]


def _random(rng: np.random.Generator, shape: Sequence[int], dtype: Any) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind, endpoint=True)


def run_reference(model: bytes | str | Path, inputs: Sequence[Array]) -> list[Array]:
    """Run a model once in the reference kernels and return every output."""
    return Oracle(model).run(inputs)
