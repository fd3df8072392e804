"""Every command on an .onnx file: the shipped digits network, through tf2onnx."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import teflon
from teflon.cli import main
from teflon.samples import digits
from tests.frontend.onnx.foreign import MODELS
from tests.frontend.onnx.oracle import outputs
from tests.frontend.onnx.quantisers import FEW, inputs_of, quantised_net
from tests.frontend.onnx.tf2onnx_runner import convert, flattened, needs_tf2onnx

Capture = pytest.CaptureFixture[str]
DEVICES = ("cpu", "sim:rk3588", "sim:a311d")

pytestmark = needs_tf2onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.tflite, digits.onnx, first.onnx (channels first), a picture, labels."""
    place = tmp_path_factory.mktemp("onnx")
    source = flattened("digits_int8")
    (place / "digits.tflite").write_bytes(source)
    (place / "digits.onnx").write_bytes(convert(source).SerializeToString())
    first = convert(source, inputs_as_nchw=["image"])
    (place / "first.onnx").write_bytes(first.SerializeToString())
    (place / "labels.txt").write_text("".join(f"digit {n}\n" for n in range(10)))
    Image.fromarray(digits.held_out_set().images[0, :, :, 0]).save(place / "digit.png")
    return place


def ran(words: Sequence[object], capsys: Capture) -> str:
    assert main([str(w) for w in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("device", DEVICES)
def test_load_gives_what_the_tflite_file_gives(device: str, folder: Path) -> None:
    x = digits.as_input(digits.held_out_set().images[:1], "int8")
    with teflon.load(folder / "digits.tflite", device) as model:
        want = model(x)["probability"]
    with teflon.load(folder / "digits.onnx", device) as model:
        assert np.array_equal(model(image=x)["probability"], want)
    with teflon.load(folder / "first.onnx", device) as model:
        assert np.array_equal(model(x.transpose(0, 3, 1, 2))["probability"], want)


@pytest.mark.parametrize("device", ["rk3588", "a311d", "cpu"])
def test_check(device: str, folder: Path, capsys: Capture) -> None:
    mine = json.loads(ran(["check", folder / "digits.onnx", "--device", device, "--json"], capsys))
    other = json.loads(
        ran(["check", folder / "digits.tflite", "--device", device, "--json"], capsys)
    )
    assert mine["totals"] == other["totals"]


def test_run_writes_arrays(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    x = digits.as_input(digits.held_out_set().images[:1], "int8")
    np.save(tmp_path / "x.npy", x)
    out = ran(["run", folder / "digits.onnx", "--device", "cpu", "--input", tmp_path / "x.npy",
               "-o", tmp_path / "y.npz"], capsys)  # fmt: skip
    assert "probability" in out
    with teflon.load(folder / "digits.tflite", "cpu") as model:
        want = model(x)["probability"]
    assert np.array_equal(np.load(tmp_path / "y.npz")["probability"], want)


@pytest.mark.parametrize("name", ["digits.onnx", "first.onnx"])
def test_classify_a_picture(name: str, folder: Path, capsys: Capture) -> None:
    words = ["classify", "-i", folder / "digit.png", "-l", folder / "labels.txt", "--device", "cpu"]
    mine = ran([*words, "-m", folder / name], capsys)
    other = ran([*words, "-m", folder / "digits.tflite"], capsys)
    assert mine.splitlines()[:-1] == other.splitlines()[:-1]  # the last line is the time
    assert re.search(r": digit \d", mine)


def test_compare(folder: Path, capsys: Capture) -> None:
    for device in DEVICES[1:]:
        words = ["compare", folder / "digits.onnx", "--device", device, "--json"]
        found = json.loads(ran(words, capsys))
        assert found["layers"]
    assert "CONV_2D" in ran(["compare", folder / "digits.onnx", "--device", "sim:rk3588"], capsys)


def test_compile_and_run_without_the_model(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    made = tmp_path / "digits.teflon"
    ran(["compile", folder / "digits.onnx", "--device", "rk3588", "-o", made], capsys)
    x = digits.as_input(digits.held_out_set().images[:1], "int8")
    with (
        teflon.load(made, "sim:rk3588") as model,
        teflon.load(folder / "digits.tflite", "cpu") as other,
    ):
        assert np.array_equal(model(x)["probability"], other(x)["probability"])


def test_dump_estimate_bench(folder: Path, capsys: Capture) -> None:
    path = folder / "digits.onnx"
    assert "conv2d" in ran(["dump", path, "--device", "rk3588"], capsys)
    assert "pointwise_prequant" in ran(["estimate", path, "--device", "rk3588"], capsys)
    out = ran(["bench", path, "--device", "cpu", "--runs", "2", "--json"], capsys)
    assert json.loads(out)


def test_record_and_replay(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["record", folder / "digits.onnx", "--device", "sim:rk3588"]
    ran([*words, "-o", tmp_path / "r.npz"], capsys)
    ran(["replay", tmp_path / "r.npz"], capsys)
    assert "operations taken: 8 of 9" in ran(["replay", tmp_path / "r.npz", "--show"], capsys)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a quantised network with a float operation in its middle."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.onnx"
    path.write_bytes(MODELS["behind_a_float_part"]().SerializeToString())
    return path


def test_check_names_the_runtime(mixed: Path, capsys: Capture) -> None:
    out = ran(["check", mixed, "--device", "rk3588"], capsys)
    assert re.search(r"^ *\d+ +CONV_2D .* rocket rk3588", out, re.M)
    assert re.search(r"^ *\d+ +InstanceNorm.* onnxruntime", out, re.M)


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588", "sim:a311d"])
def test_float_parts_run(device: str, mixed: Path, tmp_path: Path, capsys: Capture) -> None:
    model = MODELS["behind_a_float_part"]()
    x = inputs_of(model)["x"]
    np.save(tmp_path / "x.npy", x)
    words = ["run", mixed, "--device", device, "--input", tmp_path / "x.npy"]
    ran([*words, "-o", tmp_path / "y.npy"], capsys)
    (theirs,) = outputs(model, {"x": x}, optimised=False)
    step = 0.05
    assert np.abs(np.load(tmp_path / "y.npy") - theirs).max() <= 2 * step + 1e-6


def test_a_compiled_file_holds_its_float_parts(
    mixed: Path, tmp_path: Path, capsys: Capture
) -> None:
    made = tmp_path / "mixed.teflon"
    ran(["compile", mixed, "--device", "rk3588", "-o", made], capsys)
    x = inputs_of(MODELS["behind_a_float_part"]())["x"]
    with teflon.load(mixed, "sim:rk3588") as model, teflon.load(made, "sim:rk3588") as other:
        for mine, theirs in zip(model(x).values(), other(x).values(), strict=True):
            assert np.array_equal(mine, theirs)


def test_every_command_on_float_parts(mixed: Path, tmp_path: Path, capsys: Capture) -> None:
    for device in ("sim:rk3588", "sim:a311d"):
        ran(["compare", mixed, "--device", device], capsys)
        ran(["record", mixed, "--device", device, "-o", tmp_path / "r.npz"], capsys)
        ran(["replay", tmp_path / "r.npz"], capsys)
    for words in (["dump"], ["estimate"]):
        ran([*words, mixed, "--device", "rk3588"], capsys)
    ran(["bench", mixed, "--device", "cpu", "--runs", "1"], capsys)


def test_open_shapes_are_given(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "open.onnx"
    path.write_bytes(quantised_net("dynamic_size", FEW[0]).SerializeToString())
    assert main(["check", str(path), "--device", "cpu"]) == 1
    assert "--shape x=" in capsys.readouterr().err
    shape = ["--shape", "x=1,6,12,14"]
    out = ran(["check", path, "--device", "rk3588", *shape], capsys)
    assert "CONV_2D" in out
    ran(["run", path, "--device", "sim:rk3588", *shape], capsys)


@pytest.mark.parametrize("command", ["check", "run", "compile", "dump", "bench"])
def test_bad_files_are_one_sentence(command: str, tmp_path: Path, capsys: Capture) -> None:
    rest = ["-o", str(tmp_path / "x.teflon")] if command == "compile" else []
    good = MODELS["quark"]().SerializeToString()
    files = {"empty": b"", "zeros": b"\0" * 40, "half": good[: len(good) // 2], "text": b"hello\n"}
    for name, data in files.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        assert main([command, str(path), "--device", "cpu", *rest]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"teflon: .*\n", err), err
        assert path.name in err
        assert "internal error" not in err
