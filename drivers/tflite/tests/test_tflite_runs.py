"""The TFLite driver: results are the runtime's, programs can be kept, states go in and out."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from teflon.errors import (
    DeviceError,
    EncodingError,
    ModelError,
    ProgramError,
    UnsupportedOperation,
)
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import DType, Graph, TensorType, Value, ops
from teflon.ir.graph import Cut
from teflon.ir.interpreter import run as interpret
from teflon.plugins import discover
from teflon_common.hosted.program import HostedProgram
from tests.frontend.tflite.helpers import (
    EXAMPLES,
    code,
    model,
    operator,
    relu,
    root,
    tensor,
)
from tests.ir.helpers import random_inputs
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared
from tests.runtimes import context, cumsum, device, driver, opaque, run, where

pytestmark = needs_oracle


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


@needs_shared
def test_scales_of_blocks_need_the_runtime_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MODELS is not None
    path = MODELS / "public" / "qwen_fc_blockwise_quantized.tflite"
    graph = read(path.read_bytes(), "qwen")
    monkeypatch.setattr("teflon_tflite.device.found", lambda: "tflite_runtime")
    (reason,) = device().unsupported(graph.ops[0], graph)
    assert "for weights without scale (pip install ai-edge-litert)" in reason
