"""Graphs to .tflite files: TFLite runs them, and our reader gets the same graph back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.compile.source import read_graph
from teflon.errors import ModelError
from teflon.frontend.tflite.operators import row_for
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import Graph, Op, Quantization, TensorType, Value, ops
from teflon.ir.interpreter import run
from teflon.ir.text import parse
from teflon.ir.types import DType
from tests.counts import compare
from tests.frontend.tflite.helpers import EXAMPLES, one, operator_codes
from tests.frontend.tflite.runtime import Mixed, interpreter, invoke
from tests.ir import examples
from tests.ir.examples import random
from tests.ir.helpers import differences, random_inputs
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

FILES = sorted(GOLDEN.glob("models/*.tflite"))[::20] if GOLDEN else []
"""A few of the single operations that were cut from public models."""
FILES += sorted(MODELS.glob("mobilenet*.tflite")) if MODELS else []


def unnumbered(graph: Graph) -> Graph:
    """The same graph without the numbers that a file gives."""
    twins = {v: dataclasses.replace(v, index=-1) for v in graph.values}

    def strip(op: Op) -> Op:
        return dataclasses.replace(op.rewired(twins), index=-1)

    return dataclasses.replace(
        graph,
        inputs=tuple(twins[v] for v in graph.inputs),
        outputs=tuple(twins[v] for v in graph.outputs),
        ops=tuple(strip(op) for op in graph.ops),
    )


@pytest.mark.parametrize("name", [n for n in EXAMPLES if "conv2d_without" not in n])
def test_what_is_written_is_read_back(name: str) -> None:
    graph = unnumbered(EXAMPLES[name]())
    assert differences(unnumbered(read(write(graph), name)), graph) == []


@needs_oracle
@pytest.mark.parametrize("name", EXAMPLES)
def test_tflite_runs_what_is_written(name: str) -> None:
    graph = EXAMPLES[name]()
    results = Oracle(write(graph)).run(random_inputs(graph))
    assert [(r.shape, r.dtype) for r in results] == [
        (v.shape, v.type.dtype.numpy) for v in graph.returned
    ]


@needs_oracle
@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_we_compute_what_tflite_computes(name: str) -> None:
    """Bit for bit, but where sums of real numbers are taken in another order."""
    graph = EXAMPLES[name]()
    inputs = random_inputs(graph)
    wanted = Oracle(write(graph)).run(inputs)
    tolerance = examples.EXAMPLES[name].row.tolerance
    results = run(read(write(graph)), inputs)[: len(graph.returned)]
    for have, want in zip(results, wanted, strict=True):
        if tolerance:
            np.testing.assert_allclose(have, want, rtol=tolerance, atol=10 * tolerance)
        else:
            assert compare(f"example {name}", have, want) == 0


@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_a_convolution_without_bias_gets_zeros(dtype: str) -> None:
    conv = read(write(EXAMPLES[f"conv2d_without_bias_{dtype}"]())).ops[0]
    assert isinstance(conv, ops.Conv2D)
    assert conv.bias is not None
    assert conv.bias.data is not None
    assert not conv.bias.data.any()
    assert conv.bias.type.scale == pytest.approx(conv.input.type.scale * conv.weights.type.scale)


@needs_shared
@needs_oracle
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_model_that_is_read_and_written_computes_the_same(file: Path) -> None:
    oracle = Oracle(file)
    inputs = oracle.random_inputs()
    again = Oracle(write(read_graph(file))).run(inputs)
    for mine, theirs in zip(again, oracle.run(inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@needs_oracle
def test_names_for_users_are_the_signature() -> None:
    data = write(EXAMPLES["chain"](), description="made by a test")
    graph = read(data)
    assert graph.input_names == ("x",)
    assert graph.output_names == ("probabilities", "features")
    assert Oracle(data).signatures() == {
        "serving_default": {"inputs": ["x"], "outputs": ["features", "probabilities"]}
    }
    assert read(write(graph, signature=False)).output_names == ("softmax", "conv")


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_versions_are_the_first_that_can_do_it(name: str) -> None:
    example = examples.EXAMPLES[name]
    versions = dict(operator_codes(write(example.graph())))
    row = row_for(example.row.kind)
    assert row is not None
    written = [versions[n] for n in (row.name, *row.also) if n in versions]
    assert written == [example.version]


def test_constants_are_aligned() -> None:
    data = write(EXAMPLES["chain"]())
    conv = read(data).ops[0]
    assert isinstance(conv, ops.Conv2D)
    assert conv.weights.data is not None
    at = data.index(conv.weights.data.tobytes())
    assert at % 16 == 0


# What the format cannot say ------------------------------------------------------------------


def test_padding_that_is_neither_same_nor_valid() -> None:
    graph = one(lambda b, x: b.conv2d(x, random((8, 3, 3, 4)), padding=(2, 0, 1, 1), name="c"))()
    with pytest.raises(ModelError) as caught:
        write(graph)
    assert str(caught.value) == (
        "CONV_2D 'c': padding is top 2, bottom 0, left 1, right 1, must be none or SAME (top 1,"
        " bottom 1, left 1, right 1); the format needs a PAD operation before it"
    )


def _clamped(clamp: tuple[int, int]) -> Graph:
    return one(lambda b, x: b.add(x, x, clamp=clamp, scale=0.05, zero_point=10, name="a"))()


@pytest.mark.parametrize(
    ("clamp", "activation"),
    [((0, 255), "none"), ((10, 255), "relu"), ((10, 130), "relu6"), ((0, 30), "relu_n1_to_1")],
)
def test_a_clamp_that_an_activation_means(clamp: tuple[int, int], activation: str) -> None:
    op: Any = read(write(_clamped(clamp))).ops[0]
    assert (op.activation.value, op.clamp) == (activation, None)


def test_a_clamp_that_no_activation_means() -> None:
    with pytest.raises(ModelError) as caught:
        write(_clamped((3, 77)))
    assert str(caught.value) == (
        "ADD 'a': clamp is [3, 77], must be what an activation means for scale 0.05 and zero point"
        " 10 (write the graph before it is lowered)"
    )


def test_types_that_are_only_carried() -> None:
    x = Value("x", TensorType(DType.OTHER, (4,)))
    y = Value("y", TensorType(DType.OTHER, (4,)))
    op = ops.Opaque(inputs=(x,), outputs=(y,), kind="CAST")
    with pytest.raises(ModelError) as caught:
        write(Graph("g", (x,), (y,), (op,)))
    assert str(caught.value) == (
        "tensor 'x': element type is 'other', which this graph only carries; it must be one that"
        " the format and numpy share"
    )


def test_operations_that_keep_state() -> None:
    x, y = (Value(n, TensorType(DType.FLOAT32, (1, 4))) for n in "xy")
    op = ops.Opaque(inputs=(x, None), outputs=(y,), kind="SVDF", options_type="SVDFOptions")
    with pytest.raises(ModelError) as caught:
        write(Graph("g", (x,), (y,), (op,)))
    assert str(caught.value) == (
        "SVDF 'y': keeps state in tensors of the file that a graph does not carry; must be an"
        " operation without state"
    )


def test_an_operation_of_somebody_else() -> None:
    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Strange(Op):
        mnemonic = "strange"
        input: Value
        output: Value

    x, y = (Value(n, TensorType(DType.UINT8, (1, 4))) for n in "xy")
    with pytest.raises(ModelError) as caught:
        write(Graph("g", (x,), (y,), (Strange(input=x, output=y),)))
    assert str(caught.value) == "strange 'y': the .tflite format has no operator for 'strange'"


def test_one_scale_for_one_channel_is_per_tensor() -> None:
    weights = random((1, 3, 3, 4), "i8")
    graph = one(lambda b, x: b.conv2d(x, weights, weight_scale=[0.5]), "i8")()
    conv: Any = read(write(graph)).ops[0]
    assert conv.weights.type.quantization == Quantization((0.5,), (0,))


STATEFUL = """graph "sum" {
  input %x: i8[1,2] {0.5:3}
  state %old: i8[1,2] {0.5:3} as "total" = [5, -7]
  state %last: i8[1,2] {0.5:3} as "last" = splat 3
  %new: i8[1,2] {0.5:3} = add(%x, %old)
  output %last
  output %new as "sum"
  keep %new
  keep %x
}
"""


@needs_oracle
def test_states_become_variables() -> None:
    graph = parse(STATEFUL).verify()
    data = write(graph)
    again = read(data)
    assert [(s.name, s.initial.tolist()) for s in again.states] == [
        ("total", [[5, -7]]), ("last", [[3, 3]]),
    ]  # fmt: skip
    assert (again.input_names[:1], again.output_names[:2]) == (("x",), ("last", "sum"))
    here, there = Mixed(graph), interpreter(data)
    for frame in range(3):
        x = np.array([[frame, 40]], np.int8)
        wanted = invoke(there, {0: x}, [d["index"] for d in there.get_output_details()])
        by_name = [d["name"] for d in there.get_output_details()]
        assert by_name == ["last", "new"]
        for have, want in zip(here(x), wanted, strict=True):
            np.testing.assert_array_equal(have, want)
