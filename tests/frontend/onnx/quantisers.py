"""Quantise float networks with onnxruntime, in every form that it writes."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from teflon.ir.types import Array
from tests.frontend.onnx.nets import NETS

FREE = 3
"""What stands for a dimension that a file leaves open."""


@dataclass(frozen=True)
class Form:
    """How a network is quantised."""

    qdq: bool = True
    per_channel: bool = True
    signed: bool = True  # activations
    signed_weights: bool = True
    symmetric: bool = False  # activations
    symmetric_weights: bool = True

    def __str__(self) -> str:
        return "-".join(
            [
                "qdq" if self.qdq else "qoperator",
                "axis" if self.per_channel else "tensor",
                ("s8" if self.signed else "u8") + ("sym" if self.symmetric else ""),
                ("s8" if self.signed_weights else "u8")
                + ("" if self.symmetric_weights else "asym"),
            ]
        )


FORMS = tuple(
    Form(*choices)
    for choices in itertools.product((True, False), repeat=6)
    if choices[3] or not (choices[1] or choices[2])
)
"""All forms; uint8 weights stand per tensor beside uint8 activations only."""

FEW = (
    Form(),
    Form(signed=False, per_channel=False),
    Form(qdq=False, signed=False),
    Form(qdq=False, per_channel=False, symmetric_weights=False),
    Form(per_channel=False, symmetric=True),
    Form(signed=False, per_channel=False, signed_weights=False, symmetric_weights=False),
    Form(qdq=False, signed=False, per_channel=False, signed_weights=False),
)
"""Forms that the suite runs."""


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(
        d.dim_value if d.HasField("dim_value") else FREE + 9
        for d in value.type.tensor_type.shape.dim
    )


def inputs_of(model: onnx.ModelProto, seed: int = 0, spread: float = 1.0) -> dict[str, Array]:
    """Return random inputs of a model: reals around zero, integers over their whole range."""
    rng = np.random.default_rng(seed)
    constant = {i.name for i in model.graph.initializer}
    found: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name in constant:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = shape_of(value)
        if kind.kind == "f":
            found[value.name] = (rng.standard_normal(shape) * spread).astype(kind)
        elif kind.kind == "b":
            found[value.name] = np.ones(shape, bool)
        else:
            info = np.iinfo(kind)
            found[value.name] = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    return found


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """A few batches of random numbers."""

    def __init__(self, batches: Iterator[dict[str, Array]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def quantised(model: onnx.ModelProto, form: Form, batches: Iterator[dict[str, Array]] | None = None,
              **options: object) -> onnx.ModelProto:  # fmt: skip
    """Return a model quantised by onnxruntime's quantize_static."""
    import tempfile
    from pathlib import Path

    def kind(signed: bool) -> QuantType:
        return QuantType.QInt8 if signed else QuantType.QUInt8

    batches = batches or (inputs_of(model, seed) for seed in range(3))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            quantize_static(
                onnx.ModelProto.FromString(
                    model.SerializeToString()
                ),  # it changes what it is given
                Path(folder) / "q.onnx",
                Reader(batches),
                quant_format=QuantFormat.QDQ if form.qdq else QuantFormat.QOperator,
                per_channel=form.per_channel,
                activation_type=kind(form.signed),
                weight_type=kind(form.signed_weights),
                extra_options={
                    "ActivationSymmetric": form.symmetric,
                    "WeightSymmetric": form.symmetric_weights,
                    **options,
                },
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(Path(folder) / "q.onnx")


@cache
def quantised_net(name: str, form: Form) -> onnx.ModelProto:
    """Return a network of `NETS`, quantised."""
    return quantised(NETS[name](), form)
