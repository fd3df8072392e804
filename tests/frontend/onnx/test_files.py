"""What files may have beside operations: opsets, data in other files, open shapes, bad bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from teflon.errors import ModelError, OptionError, TeflonError
from teflon.frontend.onnx.plugin import OnnxFrontend, teflon_frontend
from teflon.frontend.onnx.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import DType, ops
from teflon.ir.interpreter import run
from tests.frontend.onnx.builder import NEWEST, Net
from tests.frontend.onnx.canonical import content
from tests.frontend.onnx.foreign import MODELS
from tests.frontend.onnx.nets import NETS
from tests.frontend.onnx.oracle import outputs
from tests.frontend.onnx.quantisers import FEW, Form, inputs_of, quantised_net
from tests.frontend.tflite.helpers import EXAMPLES

U8 = np.uint8


def frontend() -> OnnxFrontend:
    made = teflon_frontend()
    assert isinstance(made, OnnxFrontend)
    return made


def of_opset(opset: int) -> onnx.ModelProto:
    """Return a network whose operators are the same in all opsets, but for their form."""
    n = Net("of_opset", opset)
    x = n.input("x", (1, 4, 9, 10))
    w = n.const(n.rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8))
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), n.dequantize(w, 0.01, np.int8(0)))
    b = n.pair(n.op("Relu", a), 0.05, U8(0))
    c = n.pair(n.op("MaxPool", b, kernel_shape=[2, 2], strides=[2, 2]), 0.05, U8(0))
    d = n.pair(n.op("GlobalAveragePool", c), 0.03, U8(0))
    if opset < 13:
        d = n.op("Squeeze", d, axes=[2, 3])
    else:
        d = n.op("Squeeze", d, n.const(np.array([2, 3])))
    return n.model(n.pair(d, 0.03, U8(0)))


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 18, 19, 20, 21, 23, NEWEST])
def test_the_same_graph_from_every_opset(opset: int) -> None:
    made = read(of_opset(opset).SerializeToString(), "net")
    assert not any(isinstance(op, ops.Opaque) for op in made.ops)
    assert content(made) == content(read(of_opset(13).SerializeToString(), "net"))


@pytest.mark.parametrize("form", FEW, ids=str)
@pytest.mark.parametrize("name", ["residual", "shared_weights", "max_pool_ceil", "depthwise"])
def test_nothing_is_left_between_operations(name: str, form: Form) -> None:
    """No change of layout or type inside a quantised network: at most one at each of its ends."""
    graph = read(quantised_net(name, form).SerializeToString(), name)
    counts = Counter(type(op) for op in graph.ops)
    ends = len(graph.inputs) + len(graph.outputs)
    assert counts[ops.Transpose] <= ends
    assert counts[ops.Quantize] <= len(graph.inputs)
    assert counts[ops.Dequantize] <= len(graph.outputs)
    for op in graph.ops:
        if isinstance(op, ops.Conv2D | ops.DepthwiseConv2D):
            assert op.output.type.dtype in (DType.INT8, DType.UINT8)


def test_a_shared_initialiser_stays_one() -> None:
    graph = read(MODELS["shared_dequantize"]().SerializeToString(), "net")
    weights = {op.weights for op in graph.ops if isinstance(op, ops.Conv2D)}
    assert len(weights) == 1


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The path of a model whose constants lie in `data.bin` beside it."""
    path = tmp_path / "model.onnx"
    onnx.save_model(
        MODELS["pytorch_export"](), path, save_as_external_data=True, location="data.bin",
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    return path


def test_data_in_another_file(external: Path) -> None:
    opened = frontend().read(external)
    plain = read(MODELS["pytorch_export"]().SerializeToString(), "net")
    assert content(opened.graph()) == content(plain)


def test_the_key_depends_on_data_in_another_file(external: Path) -> None:
    """`content` is the key of compiled programs: it changes with the other file."""
    before = bytes(frontend().read(external).content)
    data = external.with_name("data.bin")
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    assert bytes(frontend().read(external).content) != before


def test_a_piece_of_a_file_with_data_elsewhere_runs(external: Path) -> None:
    """What is cut out of it needs no other file."""
    graph = frontend().read(external).graph()
    assert graph.origin is not None
    cut = graph.origin.cut(graph.subgraph(graph.ops))
    model = onnx.ModelProto.FromString(cut.content)
    x = inputs_of(MODELS["pytorch_export"]())
    assert outputs(model, x, optimised=False)


@pytest.mark.parametrize(
    "harm", ["missing", "short", "outside", "absolute", "link", "folder", "pipe"]
)
def test_bad_data_files(harm: str, external: Path, tmp_path: Path) -> None:
    data = external.with_name("data.bin")
    secret = tmp_path.parent / f"{tmp_path.name}-secret.bin"
    secret.write_bytes(data.read_bytes())
    if harm == "short":
        data.write_bytes(data.read_bytes()[:100])
    elif harm == "link":
        data.unlink()
        data.symlink_to(secret)
    else:
        data.unlink()
    if harm == "folder":
        data.mkdir()
    if harm == "pipe":
        os.mkfifo(data)
    if harm in ("outside", "absolute"):
        model = onnx.load(external, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = str(secret) if harm == "absolute" else f"../{secret.name}"
        external.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"data\.bin|secret\.bin") as caught:
        frontend().read(external).graph()
    assert "must be" in str(caught.value) or "which has" in str(caught.value)


def test_data_elsewhere_without_a_folder(external: Path) -> None:
    with pytest.raises(ModelError, match=r"data\.bin"):
        frontend().read(external.read_bytes()).graph()


@pytest.mark.parametrize("name", ["dynamic_batch", "dynamic_size"])
def test_open_shapes(name: str) -> None:
    """With `shapes` a network of open dimensions is the network of these shapes."""
    model = quantised_net(name, FEW[0])
    opened = frontend().read(model.SerializeToString())
    shape = (2, 6, 11, 13)
    graph = opened.resized_graph({"x": shape})
    assert tuple(sorted(graph.inputs[0].shape)) == tuple(sorted(shape))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (ours,) = run(graph, [x.reshape(graph.inputs[0].shape)])
    (theirs,) = outputs(model, {"x": x}, optimised=False)
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() <= np.abs(theirs).max() * 0.02


def test_minus_one_is_an_open_dimension() -> None:
    """Paddle's converter writes so."""
    model = NETS["residual"]()
    (port,) = model.graph.input
    shape = tuple(d.dim_value for d in port.type.tensor_type.shape.dim)
    for axis in (0, 2):
        port.type.tensor_type.shape.dim[axis].dim_value = -1
    opened = frontend().read(model.SerializeToString())
    with pytest.raises(ModelError, match=r"\[\?, \d+, \?, \d+\], axis 2 must be given"):
        opened.graph()
    given = (2, *shape[1:])
    assert opened.resized_graph({port.name: given}).inputs[0].shape == given


def test_shapes_that_cannot_be() -> None:
    opened = frontend().read(quantised_net("dynamic_batch", FEW[0]).SerializeToString())
    with pytest.raises(OptionError, match="'y'"):
        opened.resized_graph({"y": (1, 2)})
    for shape in ((1, 6, 11), (1, 5, 11, 13), (-1, 6, 11, 13), ()):
        with pytest.raises(TeflonError, match="x"):
            opened.resized_graph({"x": shape})


def test_open_shapes_without_a_shape_tell_the_cure() -> None:
    opened = frontend().read(quantised_net("dynamic_size", FEW[0]).SerializeToString())
    with pytest.raises(TeflonError, match=r"'x'.*shape"):
        opened.graph()


def test_every_model_is_recognised() -> None:
    sniff = frontend().sniff
    for name, make in (*NETS.items(), *MODELS.items()):
        assert sniff(make().SerializeToString()[:64]), name
    named = NETS["residual"]()
    named.producer_name, named.producer_version, named.domain = "pytorch", "2.9.1", "ai.teflon"
    assert sniff(named.SerializeToString()[:64])


def test_other_files_are_not_taken_for_models() -> None:
    sniff = frontend().sniff
    assert not sniff(write(EXAMPLES["conv2d_per_axis"]())[:64])
    others = (b"", b"\x08", b"\0" * 64, b"\xff" * 64, b"# graph\n" * 8, b"PK\x03\x04" * 16,
              b"\x89PNG\r\n\x1a\n" * 8, b"\x93NUMPY\x01\x00v\x00{'descr'",
              b"\x7fELF\x02\x01\x01")  # fmt: skip
    assert [head for head in others if sniff(head)] == []


@pytest.mark.parametrize(
    ("name", "harm", "text"),
    [
        ("cycle", lambda g: g.node[0].input.__setitem__(0, g.node[-1].output[0]), "waits for"),
        ("twice", lambda g: g.node[1].output.__setitem__(0, g.node[0].output[0]), "already|twice"),
        ("nowhere", lambda g: g.node[0].input.__setitem__(0, "nobody"), "nobody"),
        ("no end", lambda g: g.output[0].__setattr__("name", "nobody"), "nobody"),
    ],
)
def test_bad_graphs(name: str, harm: Callable[[onnx.GraphProto], None], text: str) -> None:
    model = MODELS["quark"]()
    harm(model.graph)
    with pytest.raises(ModelError, match=text):
        read(model.SerializeToString(), "net")


def test_no_runtime_is_imported_for_other_files() -> None:
    """Neither `import teflon`, nor asking the frontends, nor a .tflite file imports onnx."""
    code = (
        "import sys, teflon, teflon.plugins\n"
        "from teflon.samples import models\n"
        "teflon.plugins.formats() if hasattr(teflon.plugins, 'formats') else None\n"
        "teflon.load(models.resolve('digits_int8'), 'cpu')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('onnx', 'onnxruntime', 'google')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
