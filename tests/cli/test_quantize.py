"""`teflon quantize`, and the first line of `teflon check`: what they print, write and refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import teflon
from teflon.cli import main
from teflon.compile.source import read_graph
from teflon.ir import DType
from teflon.ir.ops import Conv2D
from teflon.plugins import formats
from tests.quantize.helpers import SIZE, mobilenet, save_pictures, small, small_onnx

Capture = pytest.CaptureFixture[str]
CHIPS = ("rk3588", "a311d", "s905d3", "imx8mp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float models and calibration data."""
    path = tmp_path_factory.mktemp("quantize")
    save_pictures(path / "pictures")
    (path / "mobilenet.tflite").write_bytes(mobilenet())
    (path / "small.tflite").write_bytes(small())
    (path / "bare.tflite").write_bytes(small(signature=False))
    onnx.save(small_onnx(), path / "small.onnx")
    onnx.save(small_onnx(batch="n", size="side", opset=11), path / "open.onnx")
    rng = np.random.default_rng(5)
    np.savez(path / "x.npz", x=rng.normal(size=(6, 16, 16, 3)).astype(np.float32))
    np.savez(path / "image.npz", image=rng.normal(size=(20, 3, 16, 16)).astype(np.float32))
    return path


def run(folder: Path, model: str, data: str, out: Path, *more: str) -> int:
    words = ["quantize", str(folder / model), "--calibrate", str(folder / data), "-o", str(out)]
    return main([*words, *more])


def test_a_float_mobilenet_goes_to_every_npu(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "mobilenet_int8.tflite"
    assert run(folder, "mobilenet.tflite", "pictures", out) == 0
    text, err = capsys.readouterr()
    assert err == ""
    for chip in CHIPS:
        share = re.search(rf"^{chip}: .* MACs \(([\d.]+)%\) on the NPU$", text, re.M)
        assert share
        assert float(share[1]) >= 99
    best = re.search(r"output 'probability': same best class for (\d+) of 12 \(", text)
    assert best
    assert int(best[1]) >= 11
    assert re.search(r"^ *0 +CONV_2D +stem +\d\d\.\d dB$", text, re.M)
    assert f"calibrated and compared with 12 pictures of {folder / 'pictures'}: (pixel" in text
    assert "int8 with a weight scale for each channel" in text


def test_the_result_runs_on_a_chip_as_in_the_reference(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.tflite"
    assert run(folder, "mobilenet.tflite", "pictures", out, "--samples", "4") == 0
    from teflon.samples.images import read_image, to_input

    results = []
    for device in ("cpu", "sim:rk3588"):
        with teflon.load(out, device) as model:
            x = to_input(
                read_image(folder / "pictures" / "000.png"), read_graph(out).inputs[0].type
            )
            results.append(model(x)["probability"])
    assert results[0].shape == (1, 3)
    assert results[0].argmax() == results[1].argmax() == 0
    np.testing.assert_allclose(results[1], results[0], atol=0.05)


def test_json(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "q.tflite"
    words = ["--json", "--device", "rk3588", "--per-tensor", "--range", "average"]
    assert run(folder, "small.tflite", "x.npz", out, *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 6
    assert [layer["name"] for layer in found["layers"]] == ["first", "second"]
    assert all(layer["sqnr_db"] > 20 for layer in found["layers"])
    assert found["outputs"][0]["top1_agreement"] is None
    (chip,) = found["chips"]
    assert chip["device"] == "rk3588"
    assert chip["npu_macs"] == chip["macs"] == 16 * 16 * (8 * 27 + 8 * 72)
    assert (found["weights"], found["range"]) == ("per tensor", "average")


@pytest.mark.parametrize(("words", "per_axis"), [((), True), (("--per-tensor",), False)])
def test_weights_have_a_scale_for_each_channel_or_one(
    words: tuple[str, ...], per_axis: bool, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "q.tflite"
    assert run(folder, "bare.tflite", "x.npz", out, *words) == 0
    assert ("scale for each channel" in capsys.readouterr().out) is per_axis
    convs = [op for op in read_graph(out).ops if isinstance(op, Conv2D)]
    scales = [op.weights.type.quantization for op in convs]
    assert [s is not None and len(s.scales) > 1 for s in scales] == [per_axis] * 2


@pytest.mark.parametrize(("io", "dtype"), [("float", DType.FLOAT32), ("int8", DType.INT8)])
def test_inputs_and_outputs(io: str, dtype: DType, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.tflite"
    assert run(folder, "small.tflite", "x.npz", out, "--io", io) == 0
    graph = read_graph(out)
    assert [v.type.dtype for v in (*graph.inputs, *graph.outputs)] == [dtype] * 2
    assert graph.input_names == ("x",)


def test_ranges_hold_all_samples_or_their_average(folder: Path, tmp_path: Path) -> None:
    """One sample is much larger than the others."""
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, (40, 16, 16, 3)).astype(np.float32)
    x[20] *= 100
    np.savez(tmp_path / "x.npz", x=x)
    scales = []
    for way in ("minmax", "average"):
        out = tmp_path / f"{way}.tflite"
        words = ["--io", "int8", "--range", way, "--calibrate", str(tmp_path / "x.npz")]
        assert main(["quantize", str(folder / "small.tflite"), *words, "-o", str(out)]) == 0
        scales.append(read_graph(out).inputs[0].type.scale)
    assert scales[0] == pytest.approx(200 / 255, rel=0.02)
    assert scales[1] < scales[0] / 5


def test_an_onnx_model(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "q.onnx"
    assert run(folder, "small.onnx", "image.npz", out) == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"output 'scores': same best class for (1[89]|20) of 20 \(", text)
    assert re.search(r"^ *\d +Conv +\S+ +\d\d\.\d dB$", text, re.M)
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert kinds.count("Conv") == 2
    assert "DequantizeLinear" in kinds
    if "onnx" in formats().frontends:
        assert text.count("(100.0%) on the NPU") == len(CHIPS)
    else:
        assert text.count("MACs: not counted, ") == 1


@pytest.mark.parametrize("io", ["float", "int8"])
def test_an_onnx_model_per_tensor_with_open_sizes(
    io: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Sizes come from the arrays, or from --shape; the opset becomes one with an axis."""
    for data, words in (("image.npz", ()), ("pictures", ("--shape", "image=1,3,24,24"))):
        out = tmp_path / f"{data}.onnx"
        more = ["--per-tensor", "--io", io, "--json", *words]
        assert run(folder, "open.onnx", data, out, *more) == 0
        assert json.loads(capsys.readouterr().out)["outputs"][0]["top1_agreement"] >= 0.9
        model = onnx.load(out)
        kind = model.graph.input[0].type.tensor_type
        size = 24 if words else 16
        assert [d.dim_value for d in kind.shape.dim] == [1, 3, size, size]
        want = onnx.TensorProto.INT8 if io == "int8" else onnx.TensorProto.FLOAT
        assert kind.elem_type == want
        assert model.opset_import[0].version >= 13
        onnx.checker.check_model(model)


BAD = [
    ("none.tflite", "x.npz", (), "none.tflite: No such file or directory, must be a readable file"),
    ("x.npz", "x.npz", (), "must be a .tflite or .onnx file to quantise"),
    ("small.tflite", "none", (), "none: does not exist, must be a folder or a .npz file"),
    ("small.tflite", "image.npz", (), "is float32[20, 3, 16, 16], must be float32[samples, 16,"),
    ("small.tflite", "x.npz", ("--shape", "x=1,8,8,3"), "is float32[6, 16, 16, 3], must be"),
    ("small.tflite", "pictures", ("--shape", "x=1,8,8,3"), "is to be [1, 8, 8, 3], must be"),
    ("small.tflite", "x.npz", ("--shape", "y=1"), "--shape y: must be one of x"),
    ("small.tflite", "x.npz", ("--shape", "x=1,-2"), "must be NAME=N,N,... with numbers above 0"),
    ("small.tflite", "pictures", ("--preset", "tensorflow"), "--preset tensorflow: is not known"),
    ("small.tflite", "pictures", ("--layout", "NCHW"), "must be [n, 1 or 3, height, width]"),
    ("small.tflite", "x.npz", ("--device", "rk9"), "device 'rk9': is not known"),
    ("small.tflite", "x.npz", ("--option", "a=b"), "must come with --device"),
    ("open.onnx", "pictures", (), "must have a fixed height and width for pictures"),
    ("broken.tflite", "x.npz", (), "broken.tflite: operator_codes: 4 bytes at"),
    ("broken.onnx", "x.npz", (), "broken.onnx: onnxruntime cannot quantise it"),
]


@pytest.mark.parametrize(("model", "data", "words", "text"), BAD, ids=[b[3][:30] for b in BAD])
def test_bad_use_is_one_sentence_and_writes_nothing(
    model: str, data: str, words: tuple[str, ...], text: str,
    folder: Path, tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    (folder / "broken.tflite").write_bytes(small()[:200])
    (folder / "broken.onnx").write_bytes(b"\x08\x07\x12\x99 no model")
    out = tmp_path / f"q{Path(model).suffix}"
    assert run(folder, model, data, out, *words) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(r"teflon: .*\n", err), err
    assert text in err
    assert "internal error" not in err
    assert not list(tmp_path.iterdir())


def test_samples_that_overflow_are_refused(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    np.savez(folder / "huge.npz", x=np.full((2, 16, 16, 3), 1e38, np.float32))
    assert run(folder, "small.tflite", "huge.npz", tmp_path / "q.tflite") == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(
        r"teflon: small.tflite: tensor 'first' is from -\S+e\+3\d to \S+e\+3\d on these samples,"
        r" must stay within float32 \(pass the numbers that the model takes\)\n", err,
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    for out, text in (
        (folder / "small.tflite", "is the float model itself, must be another file"),
        (tmp_path / "q.onnx", "must end in .tflite, as the model does"),
        (tmp_path / "none" / "q.tflite", "there is no folder"),
        (tmp_path, "is a folder, must be a file"),
    ):
        assert run(folder, "small.tflite", "x.npz", out) == 1
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("model", ["small.tflite", "small.onnx"])
def test_what_is_quantised_already_is_refused(
    model: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = "x.npz" if model.endswith("tflite") else "image.npz"
    once, twice = (tmp_path / f"{n}{Path(model).suffix}" for n in ("once", "twice"))
    assert run(folder, model, data, once) == 0
    capsys.readouterr()
    assert main(["quantize", str(once), "--calibrate", str(folder / data), "-o", str(twice)]) == 1
    assert "must be a float model" in capsys.readouterr().err
    assert not twice.exists()


@pytest.mark.parametrize(
    ("model", "module", "package"),
    [
        ("small.tflite", "ai_edge_quantizer", "ai-edge-quantizer"),
        ("small.onnx", "onnxruntime", "onnxruntime"),
        ("small.onnx", "onnx", "onnx"),
    ],
)
def test_a_missing_library_is_one_sentence(
    model: str, module: str, package: str, folder: Path, tmp_path: Path
) -> None:
    """In a process of its own: the library is loaded here already."""
    out = tmp_path / f"q{Path(model).suffix}"
    words = ["quantize", str(folder / model), "--calibrate", str(folder / "x.npz"), "-o", str(out)]
    code = f"import sys; sys.modules[{module!r}] = None; import teflon.cli as c; "
    code += f"sys.exit(c.main({words!r}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"teflon: package {package}: is not installed, must be there to quantise"
        " (pip install 'teflon-npu[quantize]')\n"
    )


def test_nobody_pays_for_libraries_that_are_not_used() -> None:
    code = "import sys, teflon.cli.quantize, teflon.cli.check; from teflon.cli import main;"
    code += "print([m for m in ('onnx', 'onnxruntime', 'ai_edge_litert', 'ai_edge_quantizer',"
    code += " 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def first_line(model: Path, capsys: Capture) -> str:
    assert main(["check", str(model), "--device", "rk3588"]) == 0
    return capsys.readouterr().out.splitlines()[0]


def test_check_says_first_what_a_float_model_needs(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = folder / "mobilenet.tflite"
    assert first_line(path, capsys) == (
        "NPUs need 8-bit weights and activations, this model is float32 (100% of its"
        f" multiplications): quantise it, teflon quantize {path} --calibrate PICTURES -o"
        " mobilenet_int8.tflite"
    )
    out = tmp_path / "q.tflite"
    assert run(folder, "mobilenet.tflite", "pictures", out, "--samples", "2") == 0
    capsys.readouterr()
    assert not first_line(out, capsys).startswith("NPUs")
    assert main(["check", str(path), "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["advice"].startswith("NPUs need 8-bit weights")
    assert list(found["precision"]) == ["float32"]


def test_the_pictures_are_of_the_models_size(folder: Path) -> None:
    assert read_graph(folder / "mobilenet.tflite").inputs[0].shape == (1, SIZE, SIZE, 3)
