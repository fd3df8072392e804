"""Float .tflite files: quantised by ai-edge-quantizer, looked into with LiteRT."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.ir.types import Array
from teflon.quantize import tflite_restore
from teflon.quantize.changes import Layer
from teflon.quantize.library import library, quiet, reported
from teflon.quantize.settings import FLOAT, MINMAX, Settings
from teflon.quantize.tensors import Input, Sample
from teflon.quantize.tflite_repair import with_whole_biases

QUANTIZER = "ai-edge-quantizer"
RUNTIME = "ai-edge-litert"


class TFLiteModel:
    """A float model that was read from a .tflite file."""

    format = "tflite"

    def __init__(self, name: str, content: bytes) -> None:
        """Read a file; weights of 16 or 8 bits behind float operations become float32 again.

        Raises TeflonError without the libraries, ModelError for a file that they cannot read.
        """
        self.name = name
        self._quantizer = library("ai_edge_quantizer.quantizer", QUANTIZER)
        with reported(name, QUANTIZER):
            self.content, self.signature = tflite_restore.restored(content, name)
        self._ports = _Ports(self._interpreter(self.content), self.signature)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What users pass, by the names of the signature."""
        return self._ports.inputs

    def with_shapes(self, shapes: Mapping[str, Sequence[int]]) -> TFLiteModel:
        """Return a model for these shapes of its inputs. Raises ModelError for other than its own.

        A size that the file leaves open is 1 in the result, as TFLite takes it.
        """
        for item in self.inputs:
            shape = tuple(shapes.get(item.name, item.shape))
            if shape != item.shape:
                raise ModelError(
                    f"{self.name}: input {item.name!r} is to be {list(shape)}, must be {item} (give"
                    " the shape to the converter that makes the file)"
                )
        return self

    def quantized(self, samples: Iterable[Sample], settings: Settings) -> bytes:
        """Return the 8-bit model, calibrated with the samples. Raises ModelError."""
        calibrator = library("ai_edge_quantizer.calibrator", QUANTIZER)
        manager = library("ai_edge_quantizer.recipe_manager", QUANTIZER).RecipeManager()
        qsv = library("ai_edge_quantizer.utils.qsv_utils", QUANTIZER)
        recipe = _recipe(settings)
        update = qsv.min_max_update if settings.range == MINMAX else qsv.moving_average_update
        with reported(self.name, QUANTIZER):
            content = self.content
            if settings.io == FLOAT:
                content = tflite_restore.with_own_outputs(content)
            with quiet():
                manager.load_quantization_recipe(recipe)
                watch = calibrator.Calibrator(
                    content, num_threads=_threads(), qsv_update_func=update
                )
            for sample in samples:  # outside of `quiet`: whoever hands them shows progress
                with quiet():
                    watch.calibrate({self.signature: [dict(sample)]}, manager)
            ranges = watch.get_model_qsvs()
            _check_finite(self.name, ranges)
            with quiet():
                made = self._quantizer.Quantizer(content, recipe).quantize(
                    ranges, enable_progress_bar=False, enable_progress_report=False
                )
            return with_whole_biases(bytes(made.quantized_model), content)

    def probe(self, content: bytes | None = None) -> TFLiteProbe:
        """Return a probe of this model, or of a quantised one that was made of it."""
        return TFLiteProbe(self._interpreter(content or self.content), self.signature)

    def _interpreter(self, content: bytes) -> Any:
        litert = library("ai_edge_litert.interpreter", RUNTIME)
        resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with reported(self.name, RUNTIME), quiet():
            found = litert.Interpreter(
                model_content=content,
                num_threads=_threads(),
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=True,
            )
            found.allocate_tensors()
        return found


def _check_finite(model: str, ranges: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ModelError for a tensor whose range on the samples is no float32."""
    for name, found in ranges.items():
        if not {"min", "max"} <= found.keys():
            continue
        low, high = (np.ravel(found[end]).astype(np.float64) for end in ("min", "max"))
        if not np.all(high - low <= np.finfo(np.float32).max):
            raise ModelError(
                f"{model}: tensor {name!r} is from {low.min():g} to {high.max():g} on these"
                " samples, must stay within float32 (pass the numbers that the model takes)"
            )


def _threads() -> int:
    return min(8, os.cpu_count() or 1)


def _recipe(settings: Settings) -> list[dict[str, Any]]:
    """Return a recipe of ai-edge-quantizer. # Ref: its recipes/default_a8w8_recipe.json."""
    kind = {"num_bits": 8, "dtype": "INT"}
    whole = {"granularity": "TENSORWISE"}
    channels = whole if settings.per_tensor else {"granularity": "CHANNELWISE"}
    static = {
        "activation_tensor_config": {**kind, **whole, "symmetric": False},
        "weight_tensor_config": {**kind, **channels, "symmetric": True},
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    }
    uniform = {"algorithm_key": "min_max_uniform_quantize", "op_config": static}
    rows: list[dict[str, Any]] = [{"regex": ".*", "operation": "*", **uniform}]
    if settings.io == FLOAT:
        rows += [
            {"regex": ".*", "operation": port, "algorithm_key": "no_quantize", "op_config": {}}
            for port in ("INPUT", "OUTPUT")
        ]
    return rows


class _Ports:
    """The inputs and outputs of an interpreter's signature, by the names that users know."""

    def __init__(self, interpreter: Any, signature: str) -> None:
        runner = interpreter.get_signature_list()[signature]
        by_name = interpreter.get_signature_runner(signature)
        self.input_details: dict[str, Any] = {
            name: by_name.get_input_details()[name] for name in runner["inputs"]
        }
        self.output_details: dict[str, Any] = {
            name: by_name.get_output_details()[name] for name in runner["outputs"]
        }
        self.inputs = tuple(
            Input(name, tuple(int(n) for n in d["shape"]), np.dtype(d["dtype"]))
            for name, d in self.input_details.items()
        )


class TFLiteProbe:
    """A loaded .tflite model whose tensors can be seen."""

    def __init__(self, interpreter: Any, signature: str) -> None:
        self._interpreter = interpreter
        self._ports = _Ports(interpreter, signature)
        self._tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
        made = [
            (self._tensors[number], op["op_name"])
            for op in interpreter._get_ops_details()
            for number in op["outputs"]
            if number in self._tensors
        ]
        self._made = {d["name"]: d for d, _ in made}
        self.layers = [Layer(d["name"], kind) for d, kind in made if kind not in _CONVERSIONS]
        self.outputs = list(self._ports.output_details)

    def run(self, sample: Sample) -> tuple[Mapping[str, Array], Sequence[Array]]:
        """See `Probe.run`."""
        for name, detail in self._ports.input_details.items():
            self._interpreter.set_tensor(detail["index"], _stored(sample[name], detail))
        self._interpreter.invoke()
        tensors = {name: self._real(d) for name, d in self._made.items()}
        outputs = [self._real(d) for d in self._ports.output_details.values()]
        return (
            {name: array for name, array in tensors.items() if array is not None},
            [array for array in outputs if array is not None],
        )

    def _real(self, detail: Any) -> Array | None:
        """Return a tensor as real numbers; None for one that has none."""
        array: Array = self._interpreter.get_tensor(detail["index"])
        scales = detail["quantization_parameters"]["scales"]
        if array.dtype.kind == "f":
            return array
        if array.dtype.kind not in "iu":
            return None
        if len(scales) != 1:
            return array if detail in self._ports.output_details.values() else None
        zero_point = detail["quantization_parameters"]["zero_points"][0]
        real: Array = (array.astype(np.float32) - np.float32(zero_point)) * scales[0]
        return real


_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "DELEGATE")


def _stored(array: Array, detail: Any) -> Array:
    """Return real numbers in the type of an input."""
    dtype, scales = np.dtype(detail["dtype"]), detail["quantization_parameters"]["scales"]
    if dtype.kind not in "iu" or array.dtype.kind != "f" or len(scales) != 1:
        return array.astype(dtype)
    steps = np.round(array / scales[0]) + detail["quantization_parameters"]["zero_points"][0]
    info = np.iinfo(dtype)
    clipped: Array = steps.clip(info.min, info.max)
    return clipped.astype(dtype)
