"""Shapes that users give, that a file computes, and that only running it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from teflon.errors import DriverUnavailable, ModelError, OptionError
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.plugin import TfliteFile
from teflon.frontend.tflite.reader import read, read_resized
from teflon.ir import Graph
from teflon.ir.ops import Opaque, Relu, Reshape
from tests.frontend.tflite.helpers import code, model, opaques, operator, relu, tensor
from tests.frontend.tflite.runtime import Mixed, interpreter, invoke, random_inputs
from tests.frontend.tflite.structures import F, chain, where
from tests.oracle import needs_oracle
from tests.paths import MODELS, needs_shared


def agrees(data: bytes, graph: Graph) -> None:
    """Compare with LiteRT, its inputs in the shapes that the graph's have."""
    there = interpreter(data, {v.index: v.shape for v in graph.inputs})
    inputs = random_inputs(graph, np.random.default_rng(4))
    numbered = dict(zip((v.index for v in graph.inputs), inputs, strict=True))
    wanted = invoke(there, numbered, [d["index"] for d in there.get_output_details()])
    for have, want in zip(Mixed(graph)(*inputs), wanted, strict=True):
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)


# New shapes of inputs ----------------------------------------------------------------------------


def two() -> bytes:
    """RELU, then the sum with a second input; the signature calls them `left` and `right`."""
    maps = [table("TensorMap", name=n, tensor_index=i) for i, n in enumerate(("left", "right"))]
    return model(
        [tensor("a", **F), tensor("b", **F), tensor("c", **F), tensor("y", **F)],
        [operator([0], [2]), operator([2, 1], [3], 1, builtin_options=table("AddOptions"))],
        codes=[code("RELU"), code("ADD")],
        inputs=[0, 1],
        outputs=[3],
        signature_defs=[
            table(
                "SignatureDef",
                subgraph_index=0,
                signature_key="serve",
                inputs=maps,
                outputs=[table("TensorMap", name="sum", tensor_index=3)],
            )
        ],
    )


@needs_oracle
@pytest.mark.parametrize("names", [("left", "right"), ("a", "b"), ("left", "b")])
def test_inputs_by_the_names_of_the_signature_or_of_the_file(names: tuple[str, str]) -> None:
    graph = read_resized(two(), dict.fromkeys(names, (3, 4)))
    assert [v.shape for v in (*graph.inputs, *graph.outputs)] == [(3, 4)] * 3
    assert graph.input_names == ("left", "right")
    agrees(two(), graph)


def test_no_shapes_are_those_of_the_file() -> None:
    graph = TfliteFile("two", two()).resized_graph({})
    assert [v.shape for v in graph.outputs] == [(1, 4)]


def test_a_name_that_no_input_has() -> None:
    with pytest.raises(OptionError) as caught:
        read_resized(two(), {"lefft": (3, 4)}, "two.tflite")
    assert str(caught.value) == (
        "two.tflite: there is no input 'lefft', must be one of 'left', 'right' (did you mean left?)"
    )


@pytest.mark.parametrize("shape", [(0, 4), (-1, 4), (1 << 30, 1 << 30)])
def test_a_shape_that_no_tensor_has(shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="must have sizes of at least 1 and at most"):
        read_resized(two(), {"left": shape})


def test_shapes_that_do_not_fit_together_leave_the_operation_opaque() -> None:
    graph = read_resized(two(), {"left": (3, 5)}, ask=lambda inputs: {})
    assert opaques(graph) == [("ADD 'y'", "'c' is f32[3, 5] and 'b' is f32[1, 4], must broadcast")]


def reshape_to(*shape: int) -> bytes:
    return relu(
        tensors=[tensor("x", **F), tensor("y", (2, 2), **F),
                 tensor("s", (len(shape),), "INT32", buffer=1)],
        operators=[operator([0, 2], [1])],
        codes=[code("RESHAPE")],
        constants=[np.array(shape, np.int32)],
    )  # fmt: skip


def test_a_fixed_shape_that_does_not_fit() -> None:
    with pytest.raises(ModelError) as caught:
        read_resized(reshape_to(2, 2), {"x": (3, 4)}, "m.tflite")
    assert str(caught.value) == (
        "m.tflite: subgraphs[0]/operators[0] RESHAPE 'y': makes the shape [2, 2], which the file"
        " fixes, of [3, 4], must have as many elements (give other shapes)"
    )
    assert read_resized(reshape_to(-1, 2), {"x": (3, 4)}).outputs[0].shape == (6, 2)


def behind_opaque() -> bytes:
    """ATAN2 of the input with itself, then RELU."""
    return relu(
        tensors=[tensor("x", **F), tensor("y", **F), tensor("z", **F)],
        operators=[operator([0, 0], [2], 1), operator([2], [1])],
        codes=[code("RELU"), code("ATAN2")],
    )


def test_a_runtime_is_asked_for_the_shapes_of_what_it_runs() -> None:
    asked: list[Mapping[int, tuple[int, ...]]] = []

    def ask(inputs: Mapping[int, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
        asked.append(dict(inputs))
        return {0: (3, 4), 1: (3, 4), 2: (3, 4)}

    graph = read_resized(behind_opaque(), {"x": (3, 4)}, ask=ask)
    assert [type(op) for op in graph.ops] == [Opaque, Relu]
    assert graph.outputs[0].shape == (3, 4)
    assert asked == [{0: (3, 4)}]


@needs_oracle
def test_the_driver_of_a_runtime_is_asked() -> None:
    graph = TfliteFile("behind", behind_opaque()).resized_graph({"x": (3, 4)})
    assert graph.outputs[0].shape == (3, 4)
    agrees(behind_opaque(), graph)


def test_a_shape_that_the_runtime_does_not_tell_is_known_when_it_runs() -> None:
    graph = read_resized(behind_opaque(), {"x": (3, 4)}, ask=lambda inputs: {})
    assert graph.outputs[0].type.dynamic
    assert [reason for _, reason in opaques(graph)] == [
        "no operation of the IR for it",
        "reads 'z', whose shape is known only when it is computed",
    ]


def test_without_a_runtime_the_sentence_says_how_to_get_one() -> None:
    def ask(inputs: Mapping[int, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
        raise DriverUnavailable("none is here")

    with pytest.raises(ModelError) as caught:
        read_resized(behind_opaque(), {"x": (3, 4)}, "m", ask)
    assert str(caught.value) == (
        "m: subgraphs[0]/operators[0] ATAN2 'z': the shape of 'z' is unknown as the inputs are not"
        " those of the file, must be told by a TFLite runtime: none is here"
    )


@needs_oracle
@pytest.mark.parametrize("begin", [0, 1])
def test_new_axes_of_a_slice_have_the_new_sizes(begin: int) -> None:
    numbers = ((begin, 0, 0), (9, 0, 9), (1, 1, 1))
    data = relu(
        tensors=[
            tensor("x", (2, 4), **F), tensor("y", (2, 1, 4), **F),
            *[tensor(f"c{i}", (3,), "INT32", buffer=i + 1) for i in range(3)],
        ],
        operators=[
            operator([0, 2, 3, 4], [1],
                     builtin_options=table("StridedSliceOptions", new_axis_mask=2)),
        ],
        codes=[code("STRIDED_SLICE")],
        constants=[np.array(row, np.int32) for row in numbers],
    )  # fmt: skip
    graph = read_resized(data, {"x": (5, 6)})
    assert graph.outputs[0].shape == (5 - begin, 1, 6)
    agrees(data, graph)


@needs_shared
@needs_oracle
@pytest.mark.parametrize("name", ["kws_ref_model", "vww_96_int8", "conv0", "simple_topk_op"])
def test_public_models_for_two_at_once(name: str) -> None:
    assert MODELS is not None
    data = (MODELS / "public" / f"{name}.tflite").read_bytes()
    given = {v.name: (2 * v.shape[0], *v.shape[1:]) for v in read(data).inputs}
    try:
        graph = TfliteFile(name, data).resized_graph(given)
    except ModelError:
        with pytest.raises((RuntimeError, ValueError)):
            interpreter(data, {v.index: given[v.name] for v in read(data).inputs})
    else:
        agrees(data, graph)


# Shapes that the file computes ------------------------------------------------------------------


@needs_oracle
def test_a_chain_of_shapes_is_computed_when_the_file_is_read() -> None:
    graph = read(chain())
    assert [type(op) for op in graph.ops] == [Reshape]
    agrees(chain(), graph)
    larger = read_resized(chain(), {"x": (5, 3, 4)})
    assert larger.outputs[0].shape == (5, 12)
    agrees(chain(), larger)


FOLDED: dict[str, tuple[str, Any, list[Any], Any]] = {
    "floor_mod": ("FLOOR_MOD", None, [[7, -7], [3, 3]], [1, 2]),
    "floor_div": ("FLOOR_DIV", None, [[7, -7], [3, 3]], [2, -3]),
    "range": ("RANGE", None, [2, 9, 3], [2, 5, 8]),
    "fill": ("FILL", None, [[2, 2], 4], [[4, 4], [4, 4]]),
    "broadcast_to": ("BROADCAST_TO", None, [[1, 2], [2, 2]], [[1, 2], [1, 2]]),
    "broadcast_args": ("BROADCAST_ARGS", None, [[2, 1], [1, 3]], [2, 3]),
    "reduce_prod": ("REDUCE_PROD", table("ReducerOptions"), [[2, 3, 4], [0]], 24),
    "zeros_like": ("ZEROS_LIKE", None, [[2, 3]], [0, 0]),
    "add": ("ADD", table("AddOptions"), [[1, 2], [3, 4]], [4, 6]),
}
"""What is done with whole numbers that are known: operator, options, operands, result."""


@needs_oracle
@pytest.mark.parametrize("name", FOLDED)
def test_whole_numbers_are_computed_when_the_file_is_read(name: str) -> None:
    kind, options, operands, result = FOLDED[name]
    arrays = [np.array(o, np.int32) for o in operands]
    more = {} if options is None else {"builtin_options": options}
    numbers = range(2, 2 + len(arrays))
    data = relu(
        tensors=[
            tensor("x", **F), tensor("y", np.shape(result), "INT32"),
            *[tensor(f"c{n}", a.shape, "INT32", buffer=n + 1) for n, a in enumerate(arrays)],
        ],
        operators=[operator(list(numbers), [1], **more)],
        codes=[code(kind, 2 if kind == "BROADCAST_TO" else 1)],
        constants=arrays,
    )  # fmt: skip
    graph = read(data)
    assert graph.ops == ()
    assert graph.outputs[0].data is not None
    assert graph.outputs[0].data.tolist() == result
    agrees(data, graph)


def test_a_division_by_zero_is_left_to_the_runtime() -> None:
    data = relu(
        tensors=[tensor("x", **F), tensor("y", (1,), "INT32"), tensor("a", (1,), "INT32", buffer=1),
                 tensor("b", (1,), "INT32", buffer=2)],
        operators=[operator([2, 3], [1])],
        codes=[code("FLOOR_MOD")],
        constants=[np.array([1], np.int32), np.array([0], np.int32)],
    )  # fmt: skip
    assert opaques(read(data)) == [("FLOOR_MOD 'y'", "no operation of the IR for it")]


@needs_shared
def test_a_public_model_with_computed_paddings_is_read() -> None:
    assert MODELS is not None
    data = (MODELS / "public" / "dilated_conv.tflite").read_bytes()
    assert opaques(read(data)) == []


# Shapes that only computing tells ---------------------------------------------------------------


@needs_oracle
def test_what_reads_a_tensor_of_unknown_shape_stays_opaque() -> None:
    graph = read(where())
    assert [type(op) for op in graph.ops] == [Opaque] * 3
    assert all(v.type.dynamic for op in graph.ops for v in op.results)
    assert list(graph.problems()) == []


COMPUTED: dict[str, tuple[str, list[Any]]] = {
    "reshape": ("RESHAPE", [tensor("s", (2,), "INT32")]),
    "tile": ("TILE", [tensor("s", (2,), "INT32")]),
    "top_k": ("TOPK_V2", [tensor("k", (), "INT32")]),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_results_whose_shape_is_an_operand_that_is_computed(name: str) -> None:
    kind, operands = COMPUTED[name]
    results = [1, 2] if kind == "TOPK_V2" else [1]
    data = relu(
        tensors=[tensor("x", **F), tensor("y", **F), tensor("z", (1, 4), "INT32"), *operands],
        inputs=[0, 3],
        operators=[operator([0, 3], results)],
        codes=[code(kind)],
    )
    (op,) = read(data).ops
    assert isinstance(op, Opaque)
    assert all(v.type.dynamic for v in op.results)
