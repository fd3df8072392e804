"""SVDF: TFLite's numbers call after call; those of TFLite for microcontrollers by its rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.errors import ModelError
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import Array, DType, Graph, Quantization, State, Value, interpreter, ops
from teflon.ir.builder import Builder
from teflon.run.load import load
from tests.frontend.tflite.helpers import code, model, operator, quantization, tensor
from tests.ir.helpers import Maker
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared

CALLS = 7


def layer(seed: int, kept: str, dtype: str = "i8") -> Graph:
    """Return a random layer; `kept` is the element type of its state."""
    b = Maker(seed)
    rng = b.rng
    batch, inputs, memory, rank, units = (int(n) for n in rng.integers(1, (4, 20, 12, 4, 9)))
    x, filters = b.x(dtype, (batch, inputs)), rank * units
    feature, time = b.numbers(dtype, (filters, inputs)), b.numbers(kept, (filters, memory))
    bias = b.numbers(dtype, (units,)) if rng.integers(2) else None
    if dtype == "f32":
        activation = ("none", "relu", "relu6", "relu_n1_to_1")[seed % 4]
        b.output(b.svdf(x, feature, time, bias, rank=rank, activation=activation))
        return b.build()
    width = 2.0**15 if kept == "i16" else 2.0**7
    first, second = b.constant(feature, b.scale()), b.constant(time, 1 / width)
    spread = x.type.scale * first.type.scale * 75 * 75 * math.sqrt(inputs)
    zero = b.zero_point("i8") if kept == "i8" else 0
    state = Quantization.per_tensor(2 * spread / width, zero)
    added = None if bias is None else bias.astype(np.int32) * int(width / 8)
    how = b.like(x, spread * math.sqrt(memory * rank) / 64)
    b.output(b.svdf(x, first, second, added, rank=rank, activation="relu", state=state, **how))
    return b.build()


def calls(graph: Graph, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Return all outputs of each call, states included."""
    kept = [state.initial for state in graph.states]
    found = []
    for arrays in inputs:
        results = interpreter.run(graph, [*arrays, *kept])
        kept = results[len(graph.returned) :]
        found.append(results)
    return found


def given(graph: Graph, seed: int) -> list[list[Array]]:
    b = Maker(seed)
    return [[b.numbers(v.type.dtype.value, v.shape) for v in graph.given] for _ in range(CALLS)]


@needs_oracle
@pytest.mark.parametrize("seed", range(40))
def test_int16_states_are_tflites_bit_for_bit(seed: int) -> None:
    graph = layer(seed, "i16")
    data, inputs = write(graph), given(graph, seed)
    oracle, again = Oracle(data, preserve=True), read(data)
    (number,) = (v.index for v in again.inputs[1:])
    for arrays, (have, state) in zip(inputs, calls(again, inputs), strict=True):
        (want,) = oracle.run(arrays)
        assert have.tolist() == want.tolist()
        assert state.tolist() == oracle.tensor(number).tolist()


@needs_oracle
@pytest.mark.parametrize("seed", range(12))
def test_real_layers_are_tflites_but_for_the_order_of_sums(seed: int) -> None:
    graph = layer(seed, "f32", "f32")
    data, inputs = write(graph), given(graph, seed)
    oracle = Oracle(data)
    for arrays, (have, _) in zip(inputs, calls(graph, inputs), strict=True):
        np.testing.assert_allclose(have, oracle.run(arrays)[0], rtol=1e-5, atol=1e-4)


# Int8 states: the rule in plain Python, with C's integers -------------------------------------


def scaled(x: int, real: float) -> int:
    """Multiply as gemmlowp does: a doubling high product, then a rounding shift."""
    fraction, shift = math.frexp(real)
    factor = math.floor(fraction * 2**31 + 0.5)
    if factor == 2**31:
        factor, shift = factor // 2, shift + 1
    x = (x << max(shift, 0)) * factor
    nudged = x + (2**30 if x >= 0 else 1 - 2**30)
    high = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)  # C cuts towards zero
    right = max(-shift, 0)
    rest, half = high & (2**right - 1), ((2**right - 1) >> 1) + (high < 0)
    return (high >> right) + int(rest > half)


def narrow(op: ops.Svdf, x: Array, bias: Array | None, state: Array) -> tuple[Array, Array]:
    """Return the output and the new state as TFLite for microcontrollers makes them."""
    kinds = [v.type for v in (op.input, op.weights_feature, op.state, op.weights_time)]
    s = [np.float32(k.scale) for k in (*kinds, op.outputs[0].type)]
    to_state, to_output = float(s[0] * s[1] / s[2]), float(s[2] * s[3] / s[4])
    feature, time = (v.data for v in (op.weights_feature, op.weights_time))
    assert feature is not None
    assert time is not None
    memory, zero = time.shape[1], op.state.type.zero_point
    kept = state.reshape(-1).tolist()
    kept = [*kept[1:], 0]  # the whole buffer moves; each last place is written anew
    out = np.empty(op.outputs[0].shape, np.int8)
    for b in range(len(x)):
        summed = []
        for f, row in enumerate(feature.tolist()):
            pairs = zip(row, x[b].tolist(), strict=True)
            dot = sum(w * (v - op.input.type.zero_point) for w, v in pairs)
            at = (b * len(feature) + f) * memory
            kept[at + memory - 1] = min(max(scaled(dot, to_state) + zero, -128), 127)
            values = kept[at : at + memory]
            terms = zip(time[f].tolist(), values, strict=True)
            summed.append(sum(w * (v - zero) for w, v in terms))
        for u in range(out.shape[1]):
            total = sum(summed[u * op.rank : (u + 1) * op.rank])
            total += 0 if bias is None else int(bias[u])
            value = scaled(total, to_output) + op.outputs[0].type.zero_point
            out[b, u] = min(max(value, -128), 127)
    return out, np.array(kept, np.int8).reshape(state.shape)


@pytest.mark.parametrize("seed", range(25))
def test_int8_states_are_those_of_microcontrollers(seed: int) -> None:
    graph = read(write(layer(seed, "i8")))
    (op,) = graph.ops
    assert isinstance(op, ops.Svdf)
    inputs = given(graph, seed)
    state = graph.states[0].initial
    assert set(state.reshape(-1).tolist()) == {op.state.type.zero_point}
    for arrays, (have, kept) in zip(inputs, calls(graph, inputs), strict=True):
        bias = None if op.bias is None else op.bias.data
        want, state = narrow(op, arrays[0], bias, state)
        assert have.tolist() == want.tolist()
        assert kept.tolist() == state.tolist()


@needs_shared
@pytest.mark.parametrize(("device", "steps"), [("cpu", 0), ("sim:rk3588", 1), ("sim:a311d", 1)])
def test_a_keyword_spotter_for_microcontrollers(device: str, steps: int) -> None:
    """Seven layers with int8 states: each as the rule says of what it got, call after call; the
    matrix products between them within a step where an NPU takes them.
    """
    graph = spotter()
    frames = np.random.default_rng(5).integers(-9000, 30000, (12, 1, 96)).astype(np.int16)
    with load(graph, device, options={"cache": "off"}) as model:
        model.run(frames[-1])
        model.reset_state()
        kept: dict[Value, Array] = {}
        seen = [follow(graph, frame, model.run(frame), kept, steps) for frame in frames]
    assert len(set(seen)) == len(frames)


def spotter() -> Graph:
    """Return the model with the result of each operation as outputs.

    Its biases are random numbers of 32 bits, beside which nothing else counts: they get smaller.
    """
    assert MODELS
    graph = read((MODELS / "public" / "keyword_scrambled_8bit.tflite").read_bytes())
    small = {
        v: dataclasses.replace(v, data=v.data >> 17)
        for v in graph.constants
        if v.type.dtype is DType.INT32 and v.data is not None
    }
    assert len(small) == 12
    graph = graph.with_ops(op.rewired(small) for op in graph.ops)
    assert sum(isinstance(op, ops.Svdf) for op in graph.ops) == 7
    outputs = (*(op.results[0] for op in graph.ops), *graph.outputs[1:])
    names = (*(op.results[0].name for op in graph.ops), *graph.output_names[1:])
    return dataclasses.replace(graph, outputs=outputs, output_names=names).verify()


def follow(
    graph: Graph, frame: Array, results: Sequence[Array], kept: dict[Value, Array], steps: int
) -> bytes:
    """Check each result of a call by the operands that the call itself made; update the states."""
    made: dict[Value, Array] = {graph.inputs[0]: frame}
    for op, have in zip(graph.ops, results, strict=True):
        operands = [v.data if v and v.is_constant else made.get(v) for v in op.operands if v]
        if isinstance(op, ops.Svdf):
            first = np.full(op.state.shape, op.state.type.zero_point, np.int8)
            state = kept.get(op.state, first)
            want, kept[op.state] = narrow(op, made[op.input], operands[3], state)
            assert have.tolist() == want.tolist(), op.title
        else:
            (want,) = op.evaluate(*operands)
            allowed = steps if isinstance(op, ops.FullyConnected) else 0
            assert np.abs(have.astype(int) - want.astype(int)).max() <= allowed, op.title
        made[op.results[0]] = have
    return made[graph.ops[-2].results[0]].tobytes() + made[graph.ops[1].results[0]].tobytes()


# Files ---------------------------------------------------------------------------------------


def file(
    types: str, *, kept: str = "INT16", variable: bool = True, activation: int = 1,
    **more: Any,
) -> bytes:  # fmt: skip
    """Return a file with an SVDF of 4 inputs, 2 filters, a memory of 3."""
    first, weight = types.split()
    rng = np.random.default_rng(1)
    sizes = {"FLOAT32": np.float32, "INT8": np.int8, "INT16": np.int16}
    constants = [
        rng.integers(-100, 100, shape).astype(sizes[kind])
        for shape, kind in (((2, 4), weight), ((2, 3), kept if first == "INT8" else weight))
    ]
    state = kept if first == "INT8" else "FLOAT32"
    q = {"quantization": quantization()}
    tensors = [
        tensor("x", (1, 4), first),
        tensor("y", (1, 2), first),
        tensor("feature", (2, 4), weight, buffer=1),
        tensor("time", (2, 3), kept if first == "INT8" else weight, buffer=2, **q),
        tensor("state", (1, 6), state, is_variable=variable, **q),
    ]
    options = table("SVDFOptions", rank=1, fused_activation_function=activation)
    return model(
        tensors, [operator([0, 2, 3, -1, 4], [1], builtin_options=options)],
        codes=[code("SVDF", 3)], constants=constants, **more,
    )  # fmt: skip


@needs_oracle
@pytest.mark.parametrize("types", ["INT8 INT8", "FLOAT32 FLOAT32"])
def test_a_files_variable_tensor_is_a_state(types: str) -> None:
    data = file(types)
    graph, oracle = read(data), Oracle(data)
    assert [op.mnemonic for op in graph.ops] == ["svdf"]
    assert [state.name for state in graph.states] == ["state"]
    assert [v.index for v in (*graph.inputs, *graph.outputs)] == [0, 4, 1, 4]
    inputs = [oracle.random_inputs(seed) for seed in range(5)]
    with teflon.load(data, "cpu", cache="off") as loaded:
        for arrays, (want, _) in zip(inputs, calls(graph, inputs), strict=True):
            (have,) = loaded(*arrays).values()
            assert have.tobytes() == want.tobytes()
            np.testing.assert_allclose(have, oracle.run(arrays)[0], rtol=1e-6)


@needs_oracle
def test_the_runtime_takes_it_with_its_state() -> None:
    """Option cpu=tflite: the variable tensor of the small file is set and got."""
    data = file("INT8 INT8")
    graph, oracle = read(data), Oracle(data)
    with teflon.load(data, "tflite", known="yes", cache="off") as loaded:
        for seed in range(5):
            arrays = oracle.random_inputs(seed)
            (have,) = loaded(*arrays).values()
            assert have.tolist() == oracle.run(arrays)[0].tolist()
    assert graph.states


@needs_oracle
def test_hybrid_layers_are_the_runtimes() -> None:
    data = file("FLOAT32 INT8")
    (op,) = read(data).ops
    assert isinstance(op, ops.Opaque)
    assert op.refusal == "weights are i8 beside f32"
    oracle = Oracle(data)
    with teflon.load(data, "sim:rk3588", cache="off") as loaded:
        for seed in range(4):
            arrays = oracle.random_inputs(seed)
            (have,) = loaded(*arrays).values()
            assert have.tolist() == oracle.run(arrays)[0].tolist()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"variable": False, "inputs": (0, 4)}, "its state is no variable tensor, must be one"),
        ({"subgraph": {"inputs": (0,)}, "kept": "INT8"}, ""),
        ({"activation": 0}, "fused activation is none, must be relu beside int16"),
    ],
)
def test_forms_of_files(how: dict[str, Any], reason: str) -> None:
    (op,) = read(file("INT8 INT8", **how)).ops
    assert op.refusal == reason


def test_operands_that_do_not_fit_stay_opaque() -> None:
    data = file("INT8 INT8")
    assert isinstance(read(data).ops[0], ops.Svdf)
    (op,) = layer(3, "i16").ops
    assert isinstance(op, ops.Svdf)
    for field, value, problem in (
        ("rank", 0, "rank is 0, must be 1 or more and divide"),
        ("state", dataclasses.replace(op.input), "must have the shape"),
        ("weights_feature", op.state, "must have the shape"),
        ("bias", op.input, "must have the shape"),
    ):
        changes: dict[str, Any] = {field: value}
        assert any(problem in p for p in dataclasses.replace(op, **changes).verify()), field
    bare = dataclasses.replace(op.state.type, quantization=None)
    kept = dataclasses.replace(op.state, type=bare)
    problems = dataclasses.replace(op, state=kept).verify()
    assert f"{op.state.name!r} has no quantisation, must have a scale" in problems


# What a file cannot say ------------------------------------------------------------------------


def kept_layers() -> tuple[Builder, Value]:
    b = Builder("two")
    x = b.input("x", "f32", (1, 3))
    rng = np.random.default_rng(2)
    feature, time = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3), (2, 4)))
    y = b.svdf(x, feature, time)
    b.output(y)
    return b, y


def refused(graph: Graph) -> str:
    with pytest.raises(ModelError) as caught:
        write(graph.verify())
    return str(caught.value)


def test_states_that_no_variable_tensor_can_be() -> None:
    graph = kept_layers()[0].build()
    old, new = graph.inputs[1], graph.outputs[1]
    sentence = "SVDF 'svdf': 'state' must be a state of the graph that no other operation reads"
    plain = dataclasses.replace(graph, states=())
    assert refused(plain).startswith(sentence)
    seen = Value("seen", old.type)
    other = graph.with_ops((*graph.ops, ops.Relu(input=old, output=seen)))
    assert refused(dataclasses.replace(other, outputs=(seen, new))).startswith(sentence)
    begun = (State("state", np.ones(old.shape, np.float32)),)
    assert refused(dataclasses.replace(graph, states=begun)).startswith(
        "state 'state': must begin with the zero point"
    )
    made = Value("made", old.type)
    other = graph.with_ops((*graph.ops, ops.Relu(input=new, output=made)))
    assert "new content must be what its last operation makes" in refused(
        dataclasses.replace(other, outputs=(graph.outputs[0], made))
    )
