"""The ONNX Runtime driver, with small models made by hand."""

from __future__ import annotations

import importlib
import importlib.util
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from teflon.errors import (
    DeviceError,
    DriverUnavailable,
    OptionError,
    ProgramError,
    UnsupportedOperation,
)
from teflon.ir import Array, DType, Graph, TensorType, Value, ops
from teflon.ir.graph import Cut, Origin
from teflon.pipe import Context, Device, Driver
from teflon.plugins import discover
from teflon_common.hosted.program import HostedProgram
from teflon_onnxruntime import runtimes

INSTALLED = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="no onnxruntime (pip install 'teflon-npu[onnx]')"
)

KINDS = {DType.FLOAT32: 1, DType.UINT8: 2, DType.INT8: 3, DType.INT64: 7, DType.OTHER: 8}


class MadeOrigin(Origin):
    """An origin whose only part is the whole model."""

    form = "onnx"

    def __init__(self, content: bytes, inputs: Any, outputs: Any) -> None:
        self.whole = Cut(content, inputs, outputs)

    def cut(self, graph: Graph) -> Cut:
        return self.whole


def one(kind: str, inputs: dict[str, TensorType], output: TensorType, domain: str = "",
        **attributes: Any) -> Graph:  # fmt: skip
    """A graph of one node whose result is `y`."""
    helper: Any = importlib.import_module("onnx").helper

    def port(name: str, t: TensorType) -> Any:
        shape = [f"{name}{n}" if t.dynamic else size for n, size in enumerate(t.shape)]
        return helper.make_tensor_value_info(name, KINDS[t.dtype], shape)

    node = helper.make_node(kind, list(inputs), ["y"], domain=domain, **attributes)
    graph = helper.make_graph([node], "g", [port(n, t) for n, t in inputs.items()],
                              [port("y", output)])  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("strange", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    origin = MadeOrigin(model.SerializeToString(), tuple(inputs), ("y",))
    values = tuple(Value(n, t, None, i) for i, (n, t) in enumerate(inputs.items()))
    y = Value("y", output, None, len(values))
    op = ops.Opaque(inputs=values, outputs=(y,), kind=kind, index=0)
    return Graph("g", values, (y,), (op,), origin=origin)


F32 = TensorType(DType.FLOAT32, (2, 3))


def cumsum() -> Graph:
    return one("CumSum", {"x": F32, "axis": TensorType(DType.INT64, ())}, F32)


def driver() -> Driver:
    return discover().drivers["onnxruntime"]


def device(**options: str) -> Device:
    return driver().device("onnxruntime", options)


def context(**options: str) -> Context:
    return driver().simulate("onnxruntime", options)


def run(graph: Graph, *inputs: Array, **options: str) -> list[Array]:
    with context(**options) as opened:
        return opened.invoke(opened.load(device(**options).compile(graph)), list(inputs))


X = np.arange(6, dtype=np.float32).reshape(2, 3)
AXIS = np.array(1, np.int64)


def test_it_is_found() -> None:
    found = driver()
    assert (found.chips, found.runs) == (("onnxruntime",), ("onnx",))
    (node,) = found.probe()
    assert (node.path, node.usable) == ("onnxruntime", True)
    with found.open(node) as opened:
        assert isinstance(opened, Context)
    with pytest.raises(DriverUnavailable, match=r"^onnxruntime: chip is 'x', must be 'onnxrunt"):
        found.device("x")
    with pytest.raises(OptionError, match=r"^onnxruntime: option known is 'x', must be one of no"):
        found.device("onnxruntime", {"known": "x"})


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    runtimes.found.cache_clear()
    try:
        graph = cumsum()
        missing = "onnxruntime is not installed (pip install 'teflon-npu[onnx]')"
        assert device().unsupported(graph.ops[0], graph) == [missing]
        with pytest.raises(DriverUnavailable, match=f"^onnxruntime: {re.escape(missing)}$"):
            context()
    finally:
        runtimes.found.cache_clear()


@pytest.mark.parametrize("known", ["no", "yes"])
def test_results_and_programs_that_are_kept(known: str, capfd: Any) -> None:
    graph = cumsum()
    assert device(known=known).unsupported(graph.ops[0], graph) == []
    program = device(known=known).compile(graph)
    again = device().load(program.to_bytes())
    assert isinstance(again, HostedProgram)
    assert [p.runtime_name for p in again.input_ports] == ["x", "axis"]
    with context(known=known) as opened:
        for each in (program, again):
            (y,) = opened.invoke(opened.load(each), [X, AXIS])
            assert y.tolist() == X.cumsum(1).tolist()
    assert capfd.readouterr() == ("", "")


def test_what_the_runtime_has_not() -> None:
    odd = one("Odd", {"x": F32}, F32, domain="strange")
    assert device().unsupported(odd.ops[0], odd) == [
        "onnxruntime has no operation 'strange:Odd'"
    ]  # fmt: skip
    wrong = one("Nope", {"x": F32}, F32)
    (reason,) = device().unsupported(wrong.ops[0], wrong)
    assert reason.startswith("onnxruntime refuses it: This is an invalid model")
    with pytest.raises(UnsupportedOperation, match=r"^Nope 'y': onnxruntime refuses it"):
        device().compile(wrong)
    elsewhere = Graph("g", wrong.inputs, wrong.outputs, wrong.ops)
    assert device().unsupported(one("Relu", {"x": F32}, F32).ops[0], elsewhere) == [
        "the graph was not read from an .onnx file"
    ]


def test_a_failure_while_running_names_the_operation(capfd: Any) -> None:
    graph = one("Gather", {"x": F32, "i": TensorType(DType.INT64, (1,))},
                TensorType(DType.FLOAT32, (1, 3)))  # fmt: skip
    with pytest.raises(DeviceError, match=r"^onnxruntime: Gather 'y': onnxruntime refuses it: "):
        run(graph, X, np.array([7], np.int64))
    assert run(graph, X, np.array([1], np.int64))[0].tolist() == [[3, 4, 5]]
    assert capfd.readouterr() == ("", "")


def test_shapes_that_depend_on_data() -> None:
    kind = TensorType(DType.INT64, (2, 6), None, dynamic=True)
    (y,) = run(one("NonZero", {"x": F32}, kind), X)
    assert y.shape == (2, 5)
    fixed = one("NonZero", {"x": F32}, kind)
    y_fixed = Value("y", TensorType(DType.INT64, (2, 6)), None, 1)
    op = fixed.ops[0].rewired({fixed.outputs[0]: y_fixed})
    fixed = Graph("g", fixed.inputs, (y_fixed,), (op,), origin=fixed.origin)
    message = r"^onnxruntime: NonZero 'y': output 'y' is int64\[2, 5\], must be int64\[2, 6\]$"
    with pytest.raises(DeviceError, match=message):
        run(fixed, X)


def test_texts() -> None:
    kind = TensorType(DType.OTHER, (2,))
    words = np.array(["ab", "äö"], object)
    assert run(one("Identity", {"x": kind}, kind), words)[0].tolist() == ["ab", "äö"]


def test_results_share_nothing_with_inputs() -> None:
    graph = one("Identity", {"x": F32}, F32)
    given = X.copy()
    (y,) = run(graph, given)
    y += 1
    assert given.tolist() == X.tolist()


def test_programs_of_others_and_damaged_ones() -> None:
    data = device().compile(cumsum()).to_bytes()
    with pytest.raises(ProgramError):
        device().load(data[:-1])
    with pytest.raises(ProgramError, match=r"^program: driver is 'onnxruntime', must be 'tflite'"):
        discover().drivers["tflite"].device("tflite").load(data)
    broken = HostedProgram("onnxruntime", "onnxruntime", "1", b"nonsense", (), (), ())
    with context() as opened, pytest.raises(DeviceError, match=r"cannot be opened: onnxruntime re"):
        opened.load(broken)


def test_threads_do_not_meet() -> None:
    graph = cumsum()
    with context() as opened, ThreadPoolExecutor(4) as pool:
        loaded = opened.load(device().compile(graph))
        results = list(pool.map(lambda n: opened.invoke(loaded, [X * n, AXIS])[0], range(32)))
    for n, y in enumerate(results):
        assert y.tolist() == (X * n).cumsum(1).tolist()
