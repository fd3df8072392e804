"""Reading .tflite files: structure, masks, names, what stays opaque and why."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.compile.source import read_graph
from teflon.errors import ModelError
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir.interpreter import run
from tests.frontend.tflite.helpers import (
    EXAMPLES,
    code,
    model,
    only,
    opaques,
    operator,
    quantization,
    relu,
    strided_slice,
    tensor,
)
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

# Whole models --------------------------------------------------------------------------------


def _files(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("*.tflite")) if folder else []


@needs_shared
def test_every_operation_of_the_public_models_is_known() -> None:
    files = _files(MODELS) + _files(GOLDEN and GOLDEN / "models")
    found = {file.name: opaques(read_graph(file)) for file in files}
    assert len(found) == 296
    assert {name: opaque for name, opaque in found.items() if opaque} == {}


@needs_shared
@needs_oracle
@pytest.mark.parametrize("file", _files(MODELS), ids=lambda file: file.stem)
def test_shapes_are_those_of_the_runtime(file: Path) -> None:
    graph = read_graph(file)
    assert list(graph.problems()) == []
    oracle = Oracle(file)
    oracle.run(oracle.random_inputs())
    details = {d["index"]: d for d in oracle._interpreter.get_tensor_details()}
    for value in graph.values:
        detail = details[value.index]
        assert detail["name"] == value.name
        assert tuple(detail["shape"]) == value.shape, value.name
        assert detail["dtype"] == value.type.dtype.numpy
        if value.type.quantization:
            assert detail["quantization_parameters"]["scales"].tolist() == list(
                value.type.quantization.scales
            )


def test_constants_are_views_on_the_file(tmp_path: Path) -> None:
    data = write(EXAMPLES["chain"]())
    path = tmp_path / "chain.tflite"
    path.write_bytes(data)
    for graph in (read(data), read_graph(path)):
        assert graph.name == "chain"
        for value in graph.constants:
            assert value.data is not None
            assert not value.data.flags.owndata
            assert not value.data.flags.writeable
    mapped = read_graph(path).constants[0].data
    assert mapped is not None
    base: Any = mapped
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj, mmap.mmap)


def test_writable_bytes_give_read_only_constants() -> None:
    graph = read(bytearray(write(EXAMPLES["chain"]())))
    assert not any(v.data is not None and v.data.flags.writeable for v in graph.constants)


def test_numbers_of_tensors_and_operators_are_kept() -> None:
    graph = read(write(EXAMPLES["chain"]()))
    assert [op.index for op in graph.ops] == [0, 1, 2, 3]
    assert sorted(v.index for v in graph.values) == list(range(len(graph.values)))


# Structure -----------------------------------------------------------------------------------


def test_operators_in_any_order_are_sorted() -> None:
    data = relu(
        tensors=[tensor("x"), tensor("y"), tensor("z")],
        operators=[operator([1], [2]), operator([0], [1])],
        outputs=[2],
    )
    assert [op.where for op in read(data).ops] == ["y", "z"]


def test_the_name_of_a_tensor_without_one() -> None:
    assert read(relu(tensors=[tensor(""), tensor("y")])).input_names == ("tensor0",)


def test_a_name_that_is_not_utf8() -> None:
    data = relu(tensors=[tensor("abcdef"), tensor("y")]).replace(b"abcdef", b"ab\xff\xfeef")
    assert read(data).input_names == (r"ab\xff\xfeef",)


def test_signature_names_go_to_their_tensors() -> None:
    pair = {
        "tensors": [tensor("x"), tensor("y"), tensor("z")],
        "operators": [operator([0, 1], [2], builtin_options=table("AddOptions"))],
        "codes": [code("ADD")],
        "inputs": [0, 1],
        "outputs": [2],
    }
    entries = [table("TensorMap", name="second", tensor_index=1)]
    other = table("SignatureDef", signature_key="other", subgraph_index=1)
    ours = table("SignatureDef", inputs=entries, signature_key="ours", subgraph_index=0)
    graph = read(model(**pair, signature_defs=[other, ours]))
    assert graph.input_names == ("x", "second")
    assert graph.output_names == ("z",)


def test_dynamic_dimensions_have_the_size_that_the_file_has() -> None:
    x = tensor("x", (1, 4), shape_signature=(-1, 4))
    y = tensor("y", (7, 4), shape_signature=(-1, 4))
    graph = read(relu(tensors=[x, y]))
    assert graph.outputs[0].shape == (1, 4)
    assert opaques(graph) == []


def test_a_result_without_shape_gets_the_inferred_one() -> None:
    graph = read(relu(tensors=[tensor("x", (2, 3)), tensor("y", None), tensor("z", None)],
                      operators=[operator([0], [1]), operator([1], [2])], outputs=[2]))  # fmt: skip
    assert [v.shape for v in graph.values] == [(2, 3)] * 3
    assert list(graph.problems()) == []


def _far(offset: int) -> bytes:
    return relu(
        tensors=[tensor("x"), tensor("y"), tensor("c", buffer=1)],
        operators=[operator([0, 2], [1], builtin_options=table("AddOptions"))],
        codes=[code("ADD")],
        buffers=[table("Buffer"), table("Buffer", offset=offset, size=4)],
    )


def test_data_behind_the_flatbuffer() -> None:
    start = len(_far(16))
    (constant,) = read(_far(start) + bytes(range(4))).constants
    assert constant.data is not None
    assert constant.data.tolist() == [[0, 1, 2, 3]]


def test_a_bias_of_64_bits_that_is_not_aligned_is_copied() -> None:
    data = relu(
        tensors=[tensor("x"), tensor("y"), tensor("c", (2,), "INT64", buffer=1)],
        operators=[operator([0, 2], [1], builtin_options=table("GatherNdOptions"))],
        codes=[code("GATHER_ND")],
        buffers=[table("Buffer"), table("Buffer", offset=3, size=16)],
    )
    (constant,) = read(data).constants
    assert constant.data is not None
    assert constant.data.flags.aligned
    assert not constant.data.flags.writeable
    assert constant.data.tobytes() == data[3:19]


def test_one_zero_point_for_all_scales() -> None:
    q = quantization((0.5, 0.25), (3,), quantized_dimension=1)
    graph = read(relu(tensors=[tensor("x", (1, 2), quantization=q), tensor("y", (1, 2))]))
    assert graph.inputs[0].type.quantization is not None
    assert graph.inputs[0].type.quantization.zero_points == (3, 3)
    assert graph.inputs[0].type.quantization.axis == 1


def test_a_tensor_of_one_dimension_has_its_scales_along_it() -> None:
    """Whatever the file says: a bias may have the number of its weights' axis."""
    q = quantization((0.5, 0.25), (0,), quantized_dimension=3)
    graph = read(relu(tensors=[tensor("x", (2,), quantization=q), tensor("y", (2,))]))
    assert graph.inputs[0].type.quantization is not None
    assert graph.inputs[0].type.quantization.axis == 0
    assert graph.inputs[0].type.quantization.scales == (0.5, 0.25)


def test_a_shape_operand_without_elements_is_a_constant() -> None:
    graph = read(
        relu(
            tensors=[tensor("x", (1, 1)), tensor("y", ()), tensor("shape", (0,), "INT32")],
            operators=[operator([0, 2], [1], builtin_options=table("ReshapeOptions"))],
            codes=[code("RESHAPE")],
        )
    )
    assert opaques(graph) == []
    assert graph.outputs[0].shape == ()


# Masks ---------------------------------------------------------------------------------------

SLICES: dict[str, tuple[Any, dict[str, int]]] = {
    "plain": (((0, 1), (2, 3), (1, 1)), {}),
    "negative": (((-2, -4), (-1, 4), (1, 2)), {}),
    "backwards": (((1, -1), (0, -5), (-1, -2)), {}),
    "backwards to the first": (((1, 3), (0, 0), (-1, -1)), {"begin_mask": 3, "end_mask": 3}),
    "begin and end masks": (((1, 1), (1, 1), (1, 1)), {"begin_mask": 1, "end_mask": 2}),
    "beyond the end": (((0, 0), (9, 9), (1, 3)), {}),
    "shrink": (((1, 2), (2, 3), (1, 1)), {"shrink_axis_mask": 1}),
    "shrink from the end": (((-1, -2), (0, 0), (1, 1)), {"shrink_axis_mask": 3}),
    "ellipsis": (((0, 1), (0, 2), (1, 1)), {"ellipsis_mask": 1}),
    "ellipsis of many": (((0, 7, 1), (1, 7, 2), (1, 7, 1)), {"ellipsis_mask": 2}),
    "new axis": (((7, 1, 1), (7, 2, 3), (7, 1, 1)), {"new_axis_mask": 1}),
    "new axis behind": (((0, 1, 7), (2, 4, 7), (1, 2, 7)), {"new_axis_mask": 4}),
    "new axis and shrink": (
        ((1, 7, 1), (2, 7, 4), (1, 7, 1)),
        {"new_axis_mask": 2, "shrink_axis_mask": 1},
    ),
    "new axis and ellipsis": (
        ((7, 7, 1), (7, 7, 3), (7, 7, 1)),
        {"ellipsis_mask": 1, "new_axis_mask": 2},
    ),
}


def _index(numbers: Any, masks: dict[str, int]) -> tuple[Any, ...]:
    """What numpy calls the same thing."""

    def part(i: int) -> Any:
        begin, end, stride = (row[i] for row in numbers)
        if masks.get("ellipsis_mask", 0) >> i & 1:
            return Ellipsis
        if masks.get("new_axis_mask", 0) >> i & 1:
            return np.newaxis
        if masks.get("shrink_axis_mask", 0) >> i & 1:
            return begin
        return slice(
            None if masks.get("begin_mask", 0) >> i & 1 else begin,
            None if masks.get("end_mask", 0) >> i & 1 else end,
            stride,
        )

    return tuple(part(i) for i in range(len(numbers[0])))


@pytest.mark.parametrize("name", SLICES)
def test_masks_mean_what_numpy_means(name: str) -> None:
    numbers, masks = SLICES[name]
    x = np.arange(2 * 5, dtype=np.uint8).reshape(2, 5)
    want = x[_index(numbers, masks)]
    data = strided_slice(x.shape, numbers, want.shape, **masks)
    graph = read(data)
    assert opaques(graph) == []
    assert list(graph.problems()) == []
    np.testing.assert_array_equal(run(graph, [x])[0], want)


@needs_oracle
@pytest.mark.parametrize("name", [n for n in SLICES if n != "ellipsis of many"])
def test_masks_mean_what_the_runtime_means(name: str) -> None:
    numbers, masks = SLICES[name]
    x = np.arange(2 * 5, dtype=np.uint8).reshape(2, 5)
    data = strided_slice(x.shape, numbers, x[_index(numbers, masks)].shape, **masks)
    np.testing.assert_array_equal(Oracle(data).run([x])[0], run(read(data), [x])[0])


def test_an_end_that_counts_from_the_begin() -> None:
    op = only(strided_slice((2, 5), ((0, 1), (1, 3), (1, 1)), (1, 3), offset=True))
    assert (op.begin, op.end) == ((0, 1), (1, 4))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^.*nothing: No such file or directory, must be a readable file$"
    ):
        read_graph(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"^.*: is a folder, must be a readable file$"):
        read_graph(tmp_path)
    (tmp_path / "empty.tflite").touch()
    with pytest.raises(ModelError, match=r"^.*empty.tflite: is empty, must be a \.tflite file$"):
        read_graph(tmp_path / "empty.tflite")
