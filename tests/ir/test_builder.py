"""The builder: its methods, any operation by its class, types and defaults, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.errors import OptionError, VerifyError
from teflon.ir import Activation, DType, Graph, Padding, Quantization, TensorType, ops
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.ops import Conv2D
from teflon.ir.text import parse, to_text
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import differences, random_inputs

W = np.ones((4, 3, 3, 16), np.uint8)


def started() -> tuple[Builder, Graph]:
    b = Builder("g")
    b.output(b.input("x", "u8", (1, 8, 8, 16), scale=0.1, zero_point=3))
    return b, b.build()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_and_round_trip(name: str) -> None:
    graph = EXAMPLES[name].graph()
    assert EXAMPLES[name].row.kind in {type(op) for op in graph.ops}
    results = run(graph, random_inputs(graph))
    for value, array in zip(graph.outputs, results, strict=True):
        assert (array.dtype, array.shape) == (value.type.dtype.numpy, value.type.shape)
    again = parse(to_text(graph))
    assert not differences(graph, again)
    for mine, other in zip(results, run(again, random_inputs(again)), strict=True):
        assert mine.tobytes() == other.tobytes()


def test_any_operation_by_its_class() -> None:
    b, graph = started()
    (x,) = graph.inputs
    y = b.op(ops.Maximum, a=x, b=np.full((1, 1, 1, 16), 9, np.uint8), name="most")
    assert (y.name, y.type) == ("most", x.type)
    assert b.op(ops.Squeeze, input=x, axes=(0,), scale=0.5).type == TensorType(
        DType.UINT8, (8, 8, 16), Quantization.per_tensor(0.5, 3)
    )
    assert b.op(ops.Reshape, input=x, shape=(64, 16)).type == TensorType(
        DType.UINT8, (64, 16), x.type.quantization
    )
    assert b.op(ops.Dequantize, input=x, dtype="f32").type == TensorType(
        DType.FLOAT32, (1, 8, 8, 16)
    )
    assert b.op(ops.Concatenation, inputs=(x, x), axis=3).shape == (1, 8, 8, 32)
    assert [op.mnemonic for op in b.build().ops] == [
        "maximum", "squeeze", "reshape", "dequantize", "concatenation",
    ]  # fmt: skip
    with pytest.raises(
        OptionError, match=r"^SQUEEZE: there is no field 'axis' \(did you mean axes"
    ):
        b.op(ops.Squeeze, input=x, axis=0)
    with pytest.raises(OptionError, match=r"^TRANSPOSE: lacks perm$"):
        b.op(ops.Transpose, input=x)


@pytest.mark.parametrize(
    ("given", "padding", "shape"),
    [
        ("same", Padding(0, 1, 0, 1), (1, 4, 4, 4)),
        ("valid", Padding(), (1, 3, 3, 4)),
        (1, Padding(1, 1, 1, 1), (1, 4, 4, 4)),
        ((2, 0, 1, 0), Padding(2, 0, 1, 0), (1, 4, 4, 4)),
        (Padding(0, 4, 0, 0), Padding(0, 4, 0, 0), (1, 5, 3, 4)),
    ],
)
def test_paddings(
    given: str | int | tuple[int, int, int, int] | Padding,
    padding: Padding,
    shape: tuple[int, ...],
) -> None:
    b, graph = started()
    y = b.conv2d(graph.inputs[0], W, stride=2, padding=given)
    conv = b.build().ops[-1]
    assert isinstance(conv, Conv2D)
    assert conv.padding == padding
    assert y.shape == shape


def test_quantisation_as_given_and_by_default() -> None:
    b, graph = started()
    x = graph.inputs[0]
    y = b.conv2d(x, W, np.zeros(4, np.int32), weight_scale=[0.1, 0.2, 0.3, 0.4], scale=0.7)
    conv = b.build().ops[-1]
    assert isinstance(conv, Conv2D)
    assert conv.bias is not None
    assert y.type.quantization == Quantization.per_tensor(0.7, 128)
    weights, bias = conv.weights.type.quantization, conv.bias.type.quantization
    assert weights == Quantization(tuple(float(np.float32(s / 10)) for s in (1, 2, 3, 4)),
                                   (128,) * 4, 0)  # fmt: skip
    assert bias is not None
    assert bias.axis == 0
    assert bias.scales[3] == float(np.float32(np.float32(0.1) * np.float32(0.4)))
    assert b.max_pool2d(y, 2).type.quantization == y.type.quantization
    assert b.logistic(y).type.quantization == Quantization.per_tensor(1 / 256, 0)
    assert b.tanh(y).type.quantization == Quantization.per_tensor(1 / 128, 128)
    assert b.relu(y, quantization=None).type.quantization is None
    assert b.relu(y, zero_point=5).type.quantization == Quantization.per_tensor(0.7, 5)


def test_default_scale_of_sums_uses_the_range() -> None:
    b = Builder()
    x = b.input("x", "u8", (1, 16, 16, 16), scale=0.1, zero_point=128)
    weights = np.random.default_rng(0).integers(0, 256, (16, 3, 3, 16), np.uint8)
    b.output(b.conv2d(x, weights))
    graph = b.build()
    (y,) = run(graph, random_inputs(graph))
    assert 20 < y.std() < 70
    assert ((y == 0) | (y == 255)).mean() < 0.02


def test_names_stay_unique_and_outputs_are_renamed() -> None:
    b, graph = started()
    x = graph.inputs[0]
    names = [b.relu(x).name, b.relu(x).name, b.relu(x, name="mine").name, b.relu(x, name="x").name]
    assert names == ["relu", "relu_1", "mine", "x_1"]
    y = b.relu(x)
    b.output(y, name="result")
    assert b.build().output_names == ("x", "result")


def test_float_graphs() -> None:
    b = Builder()
    x = b.input("x", "f32", (1, 4, 4, 2))
    y = b.conv2d(x, np.ones((3, 1, 1, 2), np.float32), np.ones(3, np.float32), activation="relu")
    b.output(b.softmax(y))
    graph = b.build()
    assert graph.outputs[0].type.dtype is DType.FLOAT32
    assert all(v.type.quantization is None for v in graph.values)
    (out,) = run(graph, random_inputs(graph))
    np.testing.assert_allclose(out.sum(-1), 1, atol=1e-6)


def test_operands_that_do_not_fit() -> None:
    b, graph = started()
    with pytest.raises(OptionError, match=r"^CONV_2D 'y': .*channels"):
        b.conv2d(graph.inputs[0], W[..., :5], name="y")
    with pytest.raises(OptionError, match=r"^padding: is 'some', must be 'same', 'valid' or numb"):
        b.max_pool2d(graph.inputs[0], 2, padding="some")
    with pytest.raises(OptionError, match=r"^activation: is 'relu9', must be one of none, relu, "):
        b.add(graph.inputs[0], graph.inputs[0], activation="relu9")


def test_build_verifies() -> None:
    b, graph = started()
    other = Builder().input("z", "u8", (1,))
    b.add_op(ops.Relu(input=other, output=graph.inputs[0]))
    with pytest.raises(VerifyError, match=r"^after building: RELU 'x': reads 'z' before anything"):
        b.build()


def test_activation_can_be_given_both_ways() -> None:
    b, graph = started()
    x = graph.inputs[0]
    b.add(x, x, activation=Activation.RELU6)
    b.add(x, x, activation="relu6")
    b.add(x, x, clamp=(3, 7))
    one, two, three = b.build().ops
    assert isinstance(one, ops.Add)
    assert isinstance(two, ops.Add)
    assert one.activation is two.activation is Activation.RELU6
    assert isinstance(three, ops.Add)
    assert three.clamp == (3, 7)
