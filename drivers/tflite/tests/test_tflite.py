"""The TFLite driver: results are the runtime's, what would end the process is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from teflon.errors import (
    DeviceError,
    DriverUnavailable,
    EncodingError,
    ModelError,
    OptionError,
    ProgramError,
    UnsupportedOperation,
)
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import DType, Graph, TensorType, Value, ops
from teflon.ir.graph import Cut
from teflon.ir.interpreter import run as interpret
from teflon.ir.ops import Relu
from teflon.pipe import Context, Device, Driver
from teflon.plugins import discover
from teflon_common.hosted.program import HostedProgram
from teflon_tflite import child, host, runtimes
from tests.frontend.tflite.helpers import (
    EXAMPLES,
    code,
    model,
    operator,
    quantization,
    relu,
    root,
    tensor,
)
from tests.ir.helpers import random_inputs
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared

pytestmark = needs_oracle


def driver() -> Driver:
    return discover().drivers["tflite"]


def device(**options: str) -> Device:
    return driver().device("tflite", options)


def context(**options: str) -> Context:
    return driver().simulate("tflite", options)


def run(graph: Graph, *inputs: Any, **options: str) -> list[Any]:
    program = device(**options).compile(graph)
    with context(**options) as opened:
        return opened.invoke(opened.load(program), [np.asarray(i) for i in inputs])


def cumsum() -> Graph:
    return read(
        relu(
            tensors=[tensor("x", (2, 4), "FLOAT32"), tensor("y", (2, 4), "FLOAT32"),
                     tensor("axis", (), "INT32", buffer=1)],
            operators=[operator([0, 2], [1], builtin_options=table("CumsumOptions"))],
            codes=[code("CUMSUM")],
            constants=[np.array(1, np.int32)],
        ),
        "cumsum",
    )  # fmt: skip


def opaque(data: bytes) -> Graph:
    """Read a file and take all of its operators as unknown."""
    graph = read(data, "test")
    made = [
        ops.Opaque(inputs=op.operands, outputs=op.results, kind=op.kind_name, index=op.index)
        for op in graph.ops
    ]
    return graph.with_ops(made)


def pair(kind: str, *scales: Any, dtype: str = "INT8") -> Graph:
    """An operation of two tensors; scale None is no scale at all."""
    names = zip(("a", "b", "y"), scales, strict=True)
    none = table("QuantizationParameters")
    tensors = [
        tensor(n, (1, 4), dtype, quantization=none if s is None else quantization((s,)))
        for n, s in names
    ]
    return opaque(
        model(
            tensors=tensors, operators=[operator([0, 1], [2])], codes=[code(kind, 2)],
            inputs=(0, 1), outputs=(2,),
        )
    )  # fmt: skip


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


def lstm(*shape: int) -> Graph:
    """An LSTM of one unit, whose weights are ones, over an input of this shape."""
    sizes = [shape, *[(1, shape[-1])] * 4, *[(1, 1)] * 4, *[(1,)] * 4, *[(shape[0], 1)] * 2]
    tensors = [tensor(f"t{n}", size, "FLOAT32", buffer=n if 1 <= n <= 12 else 0)
               for n, size in enumerate(sizes)]  # fmt: skip
    tensors[13:] = [table("Tensor", **{**t.values, "is_variable": True}) for t in tensors[13:]]
    out = tensor("y", (*shape[:-1], 1), "FLOAT32")
    order = [*range(9), -1, -1, -1, *range(9, 13), -1, -1, 13, 14]
    options = table("UnidirectionalSequenceLSTMOptions", fused_activation_function=4)
    return read(
        model(
            tensors=[*tensors, out],
            operators=[operator(order, [15], builtin_options=options)],
            codes=[code("UNIDIRECTIONAL_SEQUENCE_LSTM")], inputs=(0,), outputs=(15,),
            constants=[np.ones(size, np.float32) for size in sizes[1:13]],
        ),
        "lstm",
    )  # fmt: skip


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


def test_results_and_programs_that_are_kept() -> None:
    graph = cumsum()
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    program = device().compile(graph)
    again = device().load(program.to_bytes())
    assert isinstance(again, HostedProgram)
    assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
    assert again.statistics == program.statistics
    assert "CUMSUM 'y'" in device().describe(again)
    assert [c.engine for c in device().estimate(again)] == ["cpu"]
    with context() as opened:
        for one in (program, again):
            loaded = opened.load(one)
            (y,) = opened.invoke(loaded, [x])
            assert y.tolist() == x.cumsum(1).tolist()
            kept = y.copy()
            opened.invoke(loaded, [x + 1])
            assert y.tolist() == kept.tolist(), "results are arrays of their own"


def test_damaged_programs_and_those_of_others() -> None:
    data = device().compile(cumsum()).to_bytes()
    for broken in (b"", data[:-1], data[:200] + b"!" + data[201:]):
        with pytest.raises(ProgramError):
            device().load(broken)
    other = discover().drivers["onnxruntime"]
    with pytest.raises(ProgramError, match=r"^program: driver is 'tflite', must be 'onnxruntime'"):
        other.device("onnxruntime").load(data)
    wrong = HostedProgram("tflite", "tflite", "1", b"nonsense", (), (), ())
    with context() as opened, pytest.raises(DeviceError, match=r"^tflite: a part without operati"):
        opened.load(wrong)


def test_closed_things_refuse() -> None:
    x = np.zeros((2, 4), np.float32)
    program = device().compile(cumsum())
    opened = context()
    loaded = opened.load(program)
    loaded.close()
    with pytest.raises(DeviceError, match=r"^tflite: is closed, must be open$"):
        opened.invoke(loaded, [x])
    opened.close()
    with pytest.raises(DeviceError, match=r"^tflite: is closed, must be open$"):
        opened.load(program)


def test_wrong_inputs() -> None:
    program = device().compile(cumsum())
    with context() as opened:
        loaded = opened.load(program)
        with pytest.raises(DeviceError, match=r"^tflite: CUMSUM 'y': gets 0 inputs, must get 1$"):
            opened.invoke(loaded, [])
        message = r"input 'x' is float32\[3, 4\], must be float32\[2, 4\]$"
        with pytest.raises(DeviceError, match=message):
            opened.invoke(loaded, [np.zeros((3, 4), np.float32)])


def where(dynamic: bool) -> Graph:
    graph = read(
        relu(
            tensors=[tensor("x", (4,), "BOOL"), tensor("y", (0, 1), "INT64")],
            codes=[code("WHERE")],
        ),
        "where",
    )
    (op,) = graph.ops
    kind = TensorType(DType.INT64, (4, 1), None, dynamic)
    y = Value("y", kind, None, 1)
    return Graph("g", graph.inputs, (y,), (op.rewired({op.results[0]: y}),), origin=graph.origin)


def test_shapes_that_depend_on_data() -> None:
    condition = np.array([True, False, True, False])
    (y,) = run(where(dynamic=True), condition)
    assert y.tolist() == [[0], [2]]
    message = r"^tflite: WHERE 'y': output 'y' is int64\[2, 1\], must be int64\[4, 1\]$"
    with pytest.raises(DeviceError, match=message):
        run(where(dynamic=False), condition)


def test_a_failure_while_running_names_the_operation() -> None:
    graph = opaque(
        model(
            tensors=[tensor("x", (4,), "FLOAT32"), tensor("i", (1,), "INT32"),
                     tensor("y", (1,), "FLOAT32")],
            operators=[operator([0, 1], [2], builtin_options=table("GatherOptions"))],
            codes=[code("GATHER")], inputs=(0, 1), outputs=(2,),
        )
    )  # fmt: skip
    x = np.zeros(4, np.float32)
    with pytest.raises(DeviceError, match=r"^tflite: GATHER 'y': the TFLite runtime refuses it: "):
        run(graph, x, np.array([9], np.int32))
    assert run(graph, x + 5, np.array([3], np.int32))[0].tolist() == [5]


def test_texts() -> None:
    graph = opaque(
        model(
            tensors=[tensor("x", (2,), "STRING"), tensor("i", (1,), "INT32", buffer=1),
                     tensor("y", (1,), "STRING")],
            operators=[operator([0, 1], [2], builtin_options=table("GatherOptions"))],
            codes=[code("GATHER")], constants=[np.array([1], np.int32)], outputs=(2,),
        )
    )  # fmt: skip
    for given in ([b"ab", "äö".encode()], ["ab", "äö"]):
        for kind in (None, object):
            assert run(graph, np.array(given, kind))[0].tolist() == ["äö".encode()]


def test_states_are_set_and_fetched() -> None:
    """The runtime's own frames in sequence, and ours with the state in our hands."""
    data = model(
        tensors=[
            tensor("x", (1, 4), "FLOAT32"), tensor("y", (1, 2), "FLOAT32"),
            tensor("feature", (2, 4), "FLOAT32", buffer=1),
            tensor("time", (2, 3), "FLOAT32", buffer=2),
            tensor("state", (1, 6), "FLOAT32", is_variable=True),
        ],
        operators=[operator([0, 2, 3, -1, 4], [1], builtin_options=table("SVDFOptions", rank=1))],
        codes=[code("SVDF")],
        constants=[np.ones((2, 4), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)],
    )  # fmt: skip
    origin = cumsum().origin
    assert origin is not None
    origin = type(origin)(data, "svdf")  # type: ignore[call-arg]
    f32 = DType.FLOAT32
    x = Value("x", TensorType(f32, (1, 4)), None, 0)
    y = Value("y", TensorType(f32, (1, 2)), None, 1)
    old, new = (Value("state", TensorType(f32, (1, 6)), None, 4) for _ in range(2))
    svdf = ops.Opaque(inputs=(x, old), outputs=(y, new), kind="SVDF", index=0)
    graph = Graph("g", (x, old), (y, new), (svdf,), origin=origin)
    oracle, state = Oracle(data), np.zeros((1, 6), np.float32)
    with context() as opened:
        loaded = opened.load(device().compile(graph))
        for frame in np.random.default_rng(0).random((5, 1, 4), np.float32):
            (want,) = oracle.run([frame])
            opened.invoke(loaded, [frame * 7, state])  # another stream, which changes nothing
            got, state = opened.invoke(loaded, [frame, state])
            assert got.tobytes() == want.tobytes()


def test_threads_do_not_meet() -> None:
    graph = cumsum()
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 9, (2, 4)).astype(np.float32) for _ in range(64)]
    with context() as opened, ThreadPoolExecutor(4) as pool:
        loaded = opened.load(device().compile(graph))
        results = list(pool.map(lambda x: opened.invoke(loaded, [x])[0], given))
    for x, y in zip(given, results, strict=True):
        assert y.tolist() == x.cumsum(1).tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_opens_its_own() -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    with context(known="yes", threads="2") as opened:
        loaded = opened.load(device(known="yes").compile(cumsum()))
        opened.invoke(loaded, [x])
        pid = os.fork()
        if pid == 0:
            same = opened.invoke(loaded, [x])[0].tolist() == x.cumsum(1).tolist()
            os._exit(0 if same else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert opened.invoke(loaded, [x])[0].tolist() == x.cumsum(1).tolist()


def test_shapes_after_inputs_got_others() -> None:
    graph = relu(
        tensors=[tensor("x", (1, 4), shape_signature=(-1, 4)), tensor("y"), tensor("z")],
        operators=[operator([0], [1]), operator([1], [2])], outputs=(2,),
    )  # fmt: skip
    assert driver().tensor_shapes(graph, {0: (3, 4)}) == {0: (3, 4), 1: (3, 4), 2: (3, 4)}
    with pytest.raises(ModelError, match=r"^shapes of the inputs: the TFLite runtime refuses it"):
        driver().tensor_shapes(graph, {9: (3, 4)})
    found = driver().tensor_shapes(
        relu(tensors=[tensor("x", (4,), "BOOL"), tensor("y", (1, 1), "INT64")],
             codes=[code("WHERE")]), {0: (6,)},
    )  # fmt: skip
    assert found == {0: (6,)}, "the number of results depends on the content"


def test_a_file_on_which_the_runtime_crashes_has_no_shapes() -> None:
    none = table("QuantizationParameters")
    data = model(
        tensors=[tensor(n, (1, 4), "INT8", quantization=none) for n in "aby"],
        operators=[operator([0, 1], [2])], codes=[code("ADD")], inputs=(0, 1), outputs=(2,),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"crashes on it \(SIGABRT\)$"):
        driver().tensor_shapes(data, {0: (2, 4)})


def test_the_part_is_tried_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read(relu(), "test")
    assert graph.origin is not None
    wrong = Cut(relu(codes=[code("CUSTOM", custom_code="Mine")]), (0,), (1,))
    monkeypatch.setattr(type(graph.origin), "cut", lambda self, part: wrong)
    with pytest.raises(EncodingError, match=r"^RELU 'y': the TFLite runtime has no custom op"):
        device(known="yes").compile(graph)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_known_operation_is_as_in_the_reference(name: str) -> None:
    """What the conformance kit does with graphs, with files: a graph without file has no parts."""
    try:
        graph = read(write(EXAMPLES[name]()), name)
    except ModelError:
        pytest.skip("no file can say it")
    inputs = random_inputs(graph)
    try:
        wanted = interpret(graph, inputs)
    except UnsupportedOperation:
        pytest.skip("the reference does not compute it")
    with context() as reference:
        program = device(known="yes").compile(graph)
        results = reference.invoke(reference.load(program), inputs)
    for got, want in zip(results, wanted, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if got.dtype.kind == "f":  # the reference's floats are not bit for bit the runtime's
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        else:
            assert got.tobytes() == want.tobytes()


@needs_shared
@pytest.mark.parametrize("name", ["movenet_single_pose_lightning_ptq", "norm", "l2_norm_composite"])
def test_real_models(name: str) -> None:
    assert MODELS is not None
    path = MODELS / "public" / f"{name}.tflite"
    graph, oracle = read(path.read_bytes(), name), Oracle(path)
    inputs = oracle.random_inputs()
    wanted = oracle.run(inputs)
    with context() as reference:
        program = device(known="yes").compile(graph)
        results = reference.invoke(reference.load(program), inputs)
    assert [r.tobytes() for r in results] == [w.tobytes() for w in wanted]


@needs_shared
def test_scales_of_blocks_count() -> None:
    """The reference kernels of LiteRT 2.3 give zeros for such weights, and no error."""
    assert MODELS is not None
    path = MODELS / "public" / "qwen_fc_blockwise_quantized.tflite"
    graph = read(path.read_bytes(), "qwen")
    file = root(path.read_bytes())
    contents = [b.vector("data") for b in file.children("buffers")]
    packed, scales = contents[2], contents[4]
    assert packed is not None
    assert scales is not None
    fours = np.stack([packed & 15, packed >> 4], 1).reshape(1024, 1024).astype(np.int8)
    weights = np.where(fours > 7, fours - 16, fours) * np.repeat(
        scales.view(np.float16).astype(np.float64).reshape(1024, 32), 32, 1
    )
    x = np.random.default_rng(0).standard_normal((1, 1, 1024), np.float32)
    (y,) = run(graph, x)
    assert np.abs(y.ravel() - weights @ x.ravel()).max() < 0.1, "activations have 8 bits"
