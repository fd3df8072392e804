"""What has no kernel says so before it runs, and only then; what TFLite's runtime does with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.devices import open_device
from teflon.errors import UnsupportedOperation
from teflon.ir import Array, DType, Graph, Op, Quantization, TensorType, Value, ops
from teflon.ir.interpreter import run
from teflon.ir.types import Activation
from tests.ir.examples import EXAMPLES, FIRST
from tests.ir.helpers import SAMPLES, opaque_graph
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared

BY_CONTENT = re.compile("a divisor is 0|position is |an input is -")
"""What only running an operation tells."""

SCALES = {"powers of two": 2.0**-4, "tiny": 1e-9, "huge": 1e6}


def numbers(value: Value, rng: np.random.Generator) -> Array:
    """Return the content of a constant, random content for others."""
    if value.data is not None and value.data.dtype == value.type.dtype.numpy:
        return value.data
    kind, shape = value.type.dtype.numpy, value.shape
    if kind.kind in "fc":
        return rng.uniform(-4, 4, shape).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    low, high = value.type.dtype.range
    return rng.integers(low, high, shape, kind, endpoint=True)


def typed(value: Value, dtype: DType) -> Value:
    """Return a value of another element type, with a scale where it can have one."""
    quantization = value.type.quantization
    if dtype.is_quantizable and dtype is not DType.INT32:
        known = quantization or Quantization.per_tensor(0.3)
        low, high = dtype.range
        zeros = tuple(min(max(zero, low), high) for zero in known.zero_points)
        quantization = dataclasses.replace(known, zero_points=zeros)
    else:
        quantization = None
    data = value.data
    if data is not None:
        data = data.astype(dtype.numpy) if value.type.dtype is not dtype else data
    return Value(value.name, TensorType(dtype, value.shape, quantization), data)


def scaled(value: Value, scale: float) -> Value:
    if value.type.quantization is None or value.type.quantization.per_axis:
        return value
    zero = value.type.quantization.zero_point
    kind = dataclasses.replace(value.type, quantization=Quantization.per_tensor(scale, zero))
    return dataclasses.replace(value, type=kind)


def per_axis(value: Value, axis: int) -> Value:
    count = value.shape[axis]
    quantization = Quantization((0.1,) * count, (0,) * count, axis)
    return dataclasses.replace(
        value, type=dataclasses.replace(value.type, quantization=quantization)
    )


def changed(op: Op, new: dict[Value, Value]) -> Op:
    return op.rewired({old: value for old, value in new.items() if value is not old})


def variants(op: Op) -> Iterator[Op]:
    """Yield an operation with other element types, scales and activations."""
    yield op
    first = next(iter(op.inputs_present))
    mentioned = list(dict.fromkeys((*op.inputs_present, *op.results)))
    like = [v for v in mentioned if v.type.dtype is first.type.dtype]
    for dtype in DType:
        yield changed(op, {v: typed(v, dtype) for v in like})
        for group in (op.results, op.inputs_present[:1], op.inputs_present[1:2],
                      op.inputs_present[2:3]):  # fmt: skip
            yield changed(op, {v: typed(v, dtype) for v in group})
        yield changed(op, {v: typed(v, dtype) for v in (*op.inputs_present[:1], *op.results)})
    wide = changed(op, {v: typed(v, DType.INT16) for v in like})
    narrow = {v: typed(v, DType.INT8) for v in op.inputs_present[1:2]}
    yield changed(op, {**{v: typed(v, DType.INT16) for v in like}, **narrow})
    for scale in SCALES.values():
        yield changed(op, {v: scaled(v, scale) for v in mentioned})
        yield changed(op, {v: scaled(v, scale) for v in op.results})
        yield changed(wide, {v: scaled(v, scale) for v in (*wide.inputs_present, *wide.results)})
    if hasattr(op, "activation"):
        for one in (op, wide):
            for activation in Activation:
                yield dataclasses.replace(one, activation=activation)  # type: ignore[call-arg]
    for value in op.inputs_present[1:2]:
        for axis in range(value.type.rank):
            if value.type.dtype.is_quantizable:
                yield changed(op, {value: per_axis(value, axis)})


def outcome(op: Op, seed: int) -> str:
    """Return what evaluating on random content says; "" for results, which must be as declared."""
    rng = np.random.default_rng(seed)
    arrays = [None if v is None else numbers(v, rng) for v in op.operands]
    try:
        with np.errstate(all="ignore"):
            results = op.evaluate(*arrays)
    except UnsupportedOperation as error:
        (reason,) = error.reasons
        return reason
    for value, result in zip(op.results, results, strict=True):
        assert (result.dtype, result.shape) == (value.type.dtype.numpy, value.shape)
    return ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_refusal_is_what_evaluating_says(name: str) -> None:
    """For each valid form: no refusal, and a result; or the refusal's words, raised."""
    valid = 0
    for number, op in enumerate(variants(EXAMPLES[name].op())):
        if op.verify():
            continue  # the reader keeps it opaque
        valid += 1
        said = outcome(op, number)
        if op.refusal:
            assert said == op.refusal
        else:
            assert not said or BY_CONTENT.match(said), said
    assert valid >= 2


def refused(op: Op) -> set[str]:
    return {v.refusal for v in variants(op) if not v.verify() and v.refusal}


def test_refusals_are_seen_at_all() -> None:
    """The grid above has both kinds of forms for the classes that have limits."""
    words = {kind: refused(example.op()) for kind, example in FIRST.items()}
    for kind in (ops.Conv2D, ops.FullyConnected, ops.Add, ops.Mul, ops.AveragePool2D, ops.Softmax,
                 ops.HardSwish, ops.BatchMatMul, ops.Logistic, ops.Relu, ops.Prelu, ops.Mean,
                 ops.Sum, ops.Quantize, ops.Dequantize, ops.ResizeBilinear, ops.Abs, ops.FloorDiv,
                 ops.Neg, ops.SquaredDifference, ops.LeakyRelu):  # fmt: skip
        assert words[kind], kind.__name__
    assert "fused activation is tanh, must be a clamp" in words[ops.Conv2D]
    assert "bias is i32 beside i16, must be i64" in words[ops.Conv2D]


def test_the_cpu_driver_says_it_and_does_not_compile_it() -> None:
    device, _ = open_device("cpu")
    for example in SAMPLES.values():
        for op in variants(example.op()):
            if op.verify():
                continue
            graph = Graph("one", tuple(v for v in op.inputs_present if not v.is_constant),
                          op.results, (op,))  # fmt: skip
            assert device.unsupported(op, graph) == ([op.refusal] if op.refusal else [])
            if op.refusal:
                with pytest.raises(UnsupportedOperation, match=re.escape(op.refusal)):
                    device.compile(graph)
                break


def test_an_operation_without_arithmetic() -> None:
    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Bare(Op):
        mnemonic = "bare"
        input: Value
        output: Value

    x, y = (Value(n, TensorType(DType.UINT8, (2,))) for n in "xy")
    assert Bare(input=x, output=y).refusal == "there is no kernel for this operation"


def test_opaque_operations_give_the_readers_reason() -> None:
    graph = opaque_graph()
    assert [op.refusal for op in graph.ops] == ["", "GATHER_ND is not read", ""]


def test_bytes_that_only_the_runtime_reads_are_not_moved() -> None:
    x, y = (Value(n, TensorType(DType.OTHER, s)) for n, s in (("x", (2, 3)), ("y", (3, 2))))
    op = ops.Transpose(input=x, output=y, perm=(1, 0))
    sentence = "'x' has an element type that only the file's own runtime knows"
    assert op.refusal == sentence
    with pytest.raises(UnsupportedOperation, match=sentence):
        run(Graph("g", (x,), (y,), (op,)), [np.zeros((2, 3), np.uint8)])


@needs_oracle
@needs_shared
@pytest.mark.parametrize("device", ["cpu", "sim:rk3588", "sim:a311d"])
@pytest.mark.parametrize("name", ["matmul_quant", "model_ToyCar_quant"])
def test_the_runtime_computes_what_the_reference_has_not(name: str, device: str) -> None:
    """Products of int16 matrices; layers of float32 with int8 weights."""
    assert MODELS
    path = MODELS / "public" / f"{name}.tflite"
    oracle = Oracle(path)
    inputs = oracle.random_inputs(3)
    with teflon.load(path, device, cache="off") as model:
        found: Any = model(*inputs)
    have = list(found.values()) if isinstance(found, dict) else [found]
    for mine, wanted in zip(have, oracle.run(inputs), strict=True):
        assert mine.tobytes() == wanted.tobytes()
