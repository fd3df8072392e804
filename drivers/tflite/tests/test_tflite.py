"""The TFLite driver: what it takes; what would end the process is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from teflon.errors import (
    DriverUnavailable,
    OptionError,
    UnsupportedOperation,
)
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.ir import DType, Graph, TensorType, Value, ops
from teflon.ir.ops import Relu
from teflon.pipe import Context
from teflon_tflite import child, host, runtimes
from tests.frontend.tflite.helpers import (
    code,
    model,
    operator,
    quantization,
    relu,
    tensor,
)
from tests.oracle import needs_oracle
from tests.runtimes import context, cumsum, device, driver, lstm, pair

pytestmark = needs_oracle


def test_it_is_found_and_described() -> None:
    found = driver()
    assert (found.chips, found.runs) == (("tflite",), ("tflite",))
    (node,) = found.probe()
    assert (node.path, node.chip, node.usable) == ("tflite", "tflite", True)
    with found.open(node) as opened:
        assert isinstance(opened, Context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turbo": "1"}, r"^tflite: there is no option 'turbo' \(it takes known, threads\)$"),
        ({"thread": "1"}, r"^tflite: there is no option 'thread' \(did you mean threads\?\)$"),
        ({"known": "maybe"}, r"^tflite: option known is 'maybe', must be one of no, yes$"),
        ({"threads": "0"}, r"^tflite: option threads is '0', must be a number from 1 to 1024$"),
        ({"threads": "²"}, r"^tflite: option threads is '²', must be a number from 1 to 1024$"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        driver().device("tflite", options)


def test_wrong_chip() -> None:
    with pytest.raises(DriverUnavailable, match=r"^tflite: chip is 'i486', must be 'tflite'$"):
        driver().device("i486")


def test_describing_the_driver_imports_no_runtime() -> None:
    script = (
        "import sys; from teflon.plugins import discover;"
        "d = discover().drivers; [d[n].probe() for n in ('tflite', 'onnxruntime')];"
        "print([m for m in ('ai_edge_litert', 'onnxruntime', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "RUNTIMES", ("no_such_runtime",))
    runtimes.found.cache_clear()
    try:
        graph = cumsum()
        missing = "no TFLite runtime is installed (pip install 'teflon-npu[tflite]')"
        assert device().unsupported(graph.ops[0], graph) == [missing]
        (node,) = driver().probe()
        assert f"{node.problem} ({node.cure})" == missing
        for call in (context, lambda: driver().tensor_shapes(b"", {})):
            with pytest.raises(DriverUnavailable) as caught:
                call()
            assert str(caught.value).endswith(missing)
        with pytest.raises(UnsupportedOperation, match=r"^CUMSUM 'y': no TFLite runtime"):
            device().compile(graph)
    finally:
        runtimes.found.cache_clear()


def test_what_it_takes() -> None:
    graph = cumsum()
    assert device().unsupported(graph.ops[0], graph) == []
    known = read(relu(), "test")
    (only,) = known.ops
    assert device().unsupported(only, known) == [
        "others compute it (option known=yes lets this runtime do it)"
    ]
    assert device(known="yes").unsupported(only, known) == []
    alone = Graph("g", known.inputs, known.outputs, known.ops)
    assert device(known="yes").unsupported(only, alone) == [
        "the graph was not read from a .tflite file"
    ]
    made = Value("made", known.inputs[0].type)
    moved = only.rewired({known.inputs[0]: made})
    other = Graph("g", (made,), known.outputs, (moved,), origin=known.origin)
    assert device(known="yes").unsupported(moved, other) == []
    assert device(known="yes").veto(other) == {
        moved: "tensor 'made' is not one of the file's (a pass made it)"
    }
    assert device(known="yes").veto(known) == {}


def test_what_a_refused_end_leaves_is_refused_with_it() -> None:
    """x -> a -> (b) -> c -> y, where no file has x, nor what is between a and c."""
    known = read(relu(), "test")
    kind = known.inputs[0].type
    x, a, b, c = (Value(name, kind, None, number) for name, number in
                  (("x", -1), ("a", -1), ("b", 0), ("c", 1)))  # fmt: skip
    ops = tuple(Relu(input=i, output=o) for i, o in ((x, a), (a, b), (b, c)))
    graph = Graph("g", (x,), (c,), ops, origin=known.origin)
    assert set(device(known="yes").veto(graph)) == set(ops[:2])


def test_custom_operations_that_the_runtime_has_not() -> None:
    graph = read(relu(codes=[code("CUSTOM", custom_code="Mine")]), "test")
    assert device().unsupported(graph.ops[0], graph) == [
        "the TFLite runtime has no custom operation 'Mine'"
    ]


@pytest.mark.parametrize(
    "graph",
    [
        pair("ADD", None, None, None), pair("ADD", 1.0, 1.0, 1e-12), pair("ADD", 1e-6, 1e6, 1.0),
        pair("ADD", 1.0, 1.0, 1e-12, dtype="INT16"), pair("LESS", None, None, None),
        pair("SQUARED_DIFFERENCE", 1.0, 1.0, 1e-12),
    ],
    ids=["no_scales", "tiny_output", "far_apart", "int16", "less", "squared_difference"],
)  # fmt: skip
def test_what_ends_the_process_is_refused(graph: Graph) -> None:
    expected = "the TFLite runtime crashes on it (SIGABRT)"
    assert device().unsupported(graph.ops[0], graph) == [expected]
    with pytest.raises(UnsupportedOperation, match="crashes"):
        device().compile(graph)


def test_odd_but_good_is_taken() -> None:
    graph = pair("MUL", None, None, None)
    assert device().unsupported(graph.ops[0], graph) == []


def test_plain_operations_that_end_the_process_when_they_run_are_refused() -> None:
    good, bad = lstm(1, 3, 2), lstm(1, 3, 2, 2)
    assert device().unsupported(good.ops[0], good) == []
    expected = ["the TFLite runtime crashes on it (SIGABRT)"]
    assert device().unsupported(bad.ops[0], bad) == expected


def test_what_is_too_slow_to_try_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PATIENCE", 0.0)
    graph = lstm(1, 5, 2)
    assert device().unsupported(graph.ops[0], graph) == []
    monkeypatch.setattr(host, "SECONDS", 0.0)
    odd = pair("MINIMUM", None, None, None)
    expected = ["the TFLite runtime takes more than 0 s for it"]
    assert device().unsupported(odd.ops[0], odd) == expected


@pytest.mark.parametrize("executable", ["", "/no/python"])
def test_without_another_process(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(host, "CHILD", child.Child())
    graph, odd = lstm(1, 6, 2), pair("MAXIMUM", None, 1.0, None)
    assert device().unsupported(graph.ops[0], graph) == []
    (reason,) = device().unsupported(odd.ops[0], odd)
    assert reason.startswith("it could end this process, and there is no Python to try it in")


def test_convolutions_with_weights_of_two_bits_are_refused() -> None:
    graph = read(
        model(
            tensors=[tensor("x", (1, 8, 8, 4), "FLOAT32"),
                     tensor("w", (1, 3, 3, 4), "INT2", buffer=1, quantization=quantization()),
                     tensor("y", (1, 8, 8, 1), "FLOAT32")],
            operators=[operator([0, 1], [2], builtin_options=table(
                "Conv2DOptions", stride_w=1, stride_h=1))],
            codes=[code("CONV_2D")], inputs=(0,), outputs=(2,),
            constants=[np.zeros(9, np.uint8)],
        ),
        "two_bits",
    )  # fmt: skip
    expected = ["TFLite has no convolution with INT2 weights and reads past their end"]
    assert device().unsupported(graph.ops[0], graph) == expected
    assert device(known="yes").unsupported(graph.ops[0], graph) == expected


def test_an_int8_state_of_svdf_is_refused() -> None:
    kind = TensorType(DType.INT8, (1, 4))
    v = [Value(n, kind, None, i) for i, n in enumerate("xftbsy")]
    svdf = ops.Opaque(inputs=tuple(v[:5]), outputs=(v[5],), kind="SVDF", index=0)
    graph = Graph("g", (v[0], v[4]), (v[5],), (svdf,), origin=cumsum().origin)
    assert device().unsupported(svdf, graph) == [
        "TFLite keeps the state of an int8 SVDF in int16, this file in int8"
    ]


def test_each_operation_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = child.Child.ask

    def counted(self: child.Child, request: Any, content: Any, seconds: float) -> Any:
        asked.append(request)
        return ask(self, request, content, seconds)

    monkeypatch.setattr(child.Child, "ask", counted)
    graph = pair("MAXIMUM", None, None, None)
    one = device()
    for _ in range(3):
        assert one.unsupported(graph.ops[0], graph) == []
    assert device().unsupported(graph.ops[0], graph) == []  # the same file again
    assert len(asked) == 1
    plain = lstm(1, 7, 2)
    assert one.unsupported(plain.ops[0], plain) == []
    assert len(asked) == 2, "plain ones too"
