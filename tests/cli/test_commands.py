"""Commands on the shipped digits model: what they print, write and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

import teflon
from teflon.cli import main
from teflon.cli.classify import top
from teflon.cli.common import write_whole
from teflon.errors import ModelError, OptionError
from teflon.ir.types import DType, TensorType
from teflon.samples import digits, images, models
from tests.paths import MODELS, needs_shared

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    held_out = digits.held_out_set()
    path = tmp_path / "digit.png"
    Image.fromarray(held_out.images[0, :, :, 0]).save(path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"digit {n}\n" for n in range(10)))
    return path


def test_check_names_every_operation(capsys: Capture) -> None:
    assert main(["check", "digits_int8", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^0  CONV_2D +stem +cpu$", out, re.M)
    assert out.endswith("cpu: 9 of 9 operations, 46,592 of 46,592 MACs (100.0%), 1 partition\n")


def test_known_mistakes_of_mesa_are_reported(
    capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    """By check, by loading, and beside a fault: the V7 cores cannot decode Mesa's B8."""
    words = ["digits_int8", "--device", "sim:a311d", "--option", "strategy=mesa"]
    assert main(["check", *words]) == 0
    told = "'pointwise' and 4 more may come out wrong: int8 is streamed with a shifted zero point, "
    assert f"{told}Mesa's B8 (strategy exact" in capsys.readouterr().out
    assert main(["run", *words]) == 1
    assert told in caplog.text
    error = capsys.readouterr().err
    assert "(strategy mesa keeps Mesa's mistakes; strategy exact avoids the known ones" in error
    assert main(["check", *words[:3], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["doubts"] == []


def test_check_json(capsys: Capture) -> None:
    assert main(["check", "digits_uint8", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["totals"]["operations"] == {"cpu": 9}
    assert found["operations"][3]["kind"] == "ADD"


@pytest.mark.parametrize("command", ["check", "run", "compile", "dump", "bench"])
def test_bad_models_are_one_sentence(command: str, tmp_path: Path, capsys: Capture) -> None:
    rest = ["-o", str(tmp_path / "x.teflon")] if command == "compile" else []
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x00" * 40)
    for model in (broken, tmp_path / "missing.tflite", tmp_path):
        assert main([command, str(model), "--device", "cpu", *rest]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"teflon: .*\n", err), err
        assert model.name in err
        assert "internal error" not in err


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("sim:rk9999", "device 'sim:rk9999': is not known, must be one of auto"),
        ("/dev/accel/accel77", "device /dev/accel/accel77: no driver knows this node"),
        ("auto", ""),
    ],
)
def test_unknown_devices(device: str, text: str, capsys: Capture) -> None:
    assert main(["check", "digits_int8", "--device", device]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"teflon: .*\n", err), err
    assert text in err
    assert "internal error" not in err


def test_unknown_option(capsys: Capture) -> None:
    argv = ["check", "digits_int8", "--device", "cpu", "--option", "strategy=mesa"]
    assert main(argv) == 1
    assert "option 'strategy': driver cpu does not know it" in capsys.readouterr().err


def test_run_reads_and_writes_arrays(tmp_path: Path, capsys: Capture) -> None:
    held_out = digits.held_out_set()
    x = digits.as_input(held_out.images[:1], np.int8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", image=x)
    with teflon.load(models.resolve("digits_int8"), "cpu") as model:
        want = model(x)["probability"]
    inputs = (
        f"{tmp_path}/x.npy",
        f"image={tmp_path}/x.npy",
        f"{tmp_path}/x.npz",
        f"image={tmp_path}/x.npz",
    )
    for number, text in enumerate(inputs):
        out = tmp_path / f"y{number}.npz"
        argv = ["run", "digits_int8", "--device", "cpu", "--input", text, "-o", str(out)]
        assert main(argv) == 0
        assert np.array_equal(np.load(out)["probability"], want)
    assert main(["run", "digits_int8", "--device", "cpu", "-o", str(tmp_path / "y.npy")]) == 0
    assert np.load(tmp_path / "y.npy").shape == (1, 10)
    assert capsys.readouterr().out.count("probability: int8[1, 10]") == 5


def test_run_without_input_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        assert main(["run", "digits_uint8", "--device", "cpu", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_run_reads_pictures(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "y.npy"
    argv = ["run", "digits_int8", "--device", "cpu", "--input", str(image), "-o", str(out)]
    assert main(argv) == 0
    assert np.load(out).argmax() == digits.held_out_set().labels[0]


def test_run_report(capsys: Capture) -> None:
    assert main(["run", "digits_int8", "--device", "cpu", "--report"]) == 0
    assert "digits_int8: 9 operations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--input", "{0}/none.npy"], "{0}/none.npy: cannot be read, No such file or directory"),
        (["--input", "{0}/none.npz"], "{0}/none.npz: cannot be read, No such file or directory"),
        (["--input", "{0}/text.npy"], "{0}/text.npy: is not a readable .npy file"),
        (["--input", "{0}/text.npz"], "{0}/text.npz: is not a readable .npz file"),
        (["--input", "{0}/text.png"], "{0}/text.png: is not a picture that pillow can read"),
        (["--input", "{0}"], "{0}: cannot be read, Is a directory"),
        (["--input", "{0}/wrong.npy"], "input 'image': is float64[3], must be int8[1, 8, 8, 1]"),
        (["--input", "{0}/pickle.npy"], "{0}/pickle.npy: holds Python objects, must hold"),
        (["--input", "other={0}/wrong.npy"], "--input other: must be one of image"),
        (["--input", "image={0}/other.npz"], "other.npz: has no array 'image', it has other"),
        (
            ["--input", "{0}/other.npz"],
            "input 'image': is in no file, must be given (--input image=FILE; the files contain",
        ),
        (["-o", "{0}/folder.npz"], "{0}/folder.npz: is a folder, must be a file"),
        (["--input", "image="], "--input 'image=': names no file, must be [NAME=]FILE"),
        (["-o", "{0}/y.txt"], "-o {0}/y.txt: must end in .npz or .npy"),
        (
            ["-o", "{0}/none/y.npz"],
            "{0}/none/y.npz: cannot be written, there is no folder {0}/none",
        ),
    ],
)
def test_run_refuses(argv: list[str], text: str, tmp_path: Path, capsys: Capture) -> None:
    for name in ("text.npy", "text.npz", "text.png"):
        (tmp_path / name).write_text("neither")
    (tmp_path / "folder.npz").mkdir()
    np.save(tmp_path / "wrong.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    given = [a.format(tmp_path) for a in argv]
    assert main(["run", "digits_int8", "--device", "cpu", *given]) == 1
    err = capsys.readouterr().err
    assert text.format(tmp_path) in err
    assert re.fullmatch(r"teflon: .*\n", err), err
    assert "internal error" not in err


def test_bench(capsys: Capture) -> None:
    argv = ["bench", "digits_int8", "--device", "cpu", "--runs", "2", "--json"]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["runs"] == 2
    assert 0 < result["best_ms"] <= result["median_ms"] <= result["worst_ms"]
    assert main(["bench", "digits_int8", "--device", "cpu", "--runs", "0"]) == 2


def test_dump_shows_the_stages(capsys: Capture) -> None:
    assert main(["dump", "digits_int8", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# as read\n")
    assert "# partition 0 on cpu\n" in out
    assert "# program of partition 0 on cpu\n" in out
    assert main(["dump", "digits_int8", "--device", "cpu", "--stage", "read"]) == 0
    assert capsys.readouterr().out.count("\n# ") == 0


def test_compile_writes_the_same_file_every_time(tmp_path: Path) -> None:
    for name in ("a.teflon", "b.teflon"):
        argv = ["compile", "digits_int8", "--device", "cpu", "-o", str(tmp_path / name)]
        assert main(argv) == 0
    assert (tmp_path / "a.teflon").read_bytes() == (tmp_path / "b.teflon").read_bytes()


def test_classify_prints_mesas_lines(image: Path, labels: Path, capsys: Capture) -> None:
    argv = ["classify", "-i", str(image), "-m", "digits_uint8", "-l", str(labels)]
    assert main([*argv, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith(f": digit {digits.held_out_set().labels[0]}")
    assert all(re.fullmatch(r"\d\.\d{6}: digit \d", line) for line in lines[:5])
    assert re.fullmatch(r"time: \d+\.\d{3}ms", lines[5])
    assert main([*argv, "-o", "device: cpu"]) == 0


def test_classify_refuses(image: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["classify", "-m", "digits_uint8", "--device", "cpu", "-i"]
    assert main([*argv, str(tmp_path / "none.png")]) == 1
    assert main([*argv, str(image), "-l", str(tmp_path / "none.txt")]) == 1
    assert main([*argv, str(image), "-l", str(image)]) == 1
    assert main([*argv, str(image), "-o", "no-colon"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        f"teflon: {tmp_path}/none.png: cannot be read, No such file or directory",
        f"teflon: {tmp_path}/none.txt: cannot be read, No such file or directory",
        f"teflon: {image}: is not text in UTF-8, must be",
        "teflon: delegate option 'no-colon': must be 'name: value'",
    ]


def test_classify_with_a_file_that_is_not_a_delegate(image: Path, capsys: Capture) -> None:
    pytest.importorskip("ai_edge_litert")
    argv = ["classify", "-m", "digits_uint8", "-i", str(image), "-e", "/none.so", "-o", "a: b"]
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == "Loading external delegate from /none.so with args: {'a': 'b'}\n"
    assert err.startswith("teflon: /none.so: cannot be used, ")


def test_detect_refuses_models_that_find_no_boxes(
    image: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "boxes.png"
    argv = ["detect", "-m", "digits_uint8", "-i", str(image), "-o", str(out), "--device", "cpu"]
    assert main(argv) == 1
    assert "detect: the model's outputs are [1, 10], must be boxes" in capsys.readouterr().err
    assert not out.exists()


def test_top_is_stable_and_scaled_as_mesas_script_does() -> None:
    assert top(np.array([[0, 255, 51, 51]], np.uint8), 3) == [(1.0, 1), (0.2, 2), (0.2, 3)]
    assert top(np.array([[-128, 127]], np.int8), 1) == [(1.0, 1)]
    assert top(np.array([[0.25, 0.5]], np.float32), 1) == [(0.5, 1)]


def test_check_on_the_npu_gives_reasons(capsys: Capture) -> None:
    assert main(["check", "digits_int8", "--device", "rk3588"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^0  CONV_2D +stem +rocket rk3588$", out, re.M)
    assert re.search(r"^8  SOFTMAX +probability +cpu +\w+", out, re.M)
    assert re.search(
        r"^rocket rk3588: \d of 9 operations, .* MACs \(100\.0%\), 1 partition$", out, re.M
    )


def test_simulated_npu_is_close_to_the_reference(tmp_path: Path) -> None:
    for device in ("sim:rk3588", "cpu"):
        out = tmp_path / f"{device.replace(':', '-')}.npy"
        assert main(["run", "digits_int8", "--device", device, "-o", str(out)]) == 0
    ours, reference = (np.load(tmp_path / f"{d}.npy").astype(int) for d in ("sim-rk3588", "cpu"))
    assert ours.argmax() == reference.argmax()
    assert np.abs(ours - reference).max() <= 32


def test_dump_decodes_commands(capsys: Capture) -> None:
    assert main(["dump", "digits_int8", "--device", "rk3588", "--stage", "programs"]) == 0
    assert "CNA.CONV_CON3 CONV_X_STRIDE=1 CONV_Y_STRIDE=1" in capsys.readouterr().out


def test_dump_shows_compiled_files(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "digits.teflon"
    assert main(["compile", "digits_int8", "--device", "rk3588", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["dump", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.count("# program of partition") == 1
    assert "on rocket rk3588" in out
    assert "CNA.CONV_CON3" in out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["run", "m", "--input_std", "0"], "--input_std: is 0, must be another number"),
        (["run", "m", "--input_mean", "nan"], "--input_mean: is nan, must be finite"),
        (["detect", "-i", "i", "-m", "m", "--threshold", "inf"], "is inf, must be finite"),
        (["bench", "m", "--runs", "-1"], "--runs: is -1, must be at least 1"),
    ],
)
def test_numbers_that_make_no_sense(argv: list[str], text: str, capsys: Capture) -> None:
    assert main(argv) == 2
    assert text in capsys.readouterr().err


def test_top_refuses_maps() -> None:
    with pytest.raises(ModelError, match=r"^classify: the model's first output is \[1, 2, 2, 3\]"):
        top(np.zeros((1, 2, 2, 3)))
    with pytest.raises(ModelError, match=r"output is \[\], must be"):
        top(np.zeros(()))


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OptionError, match=r"x\.npz: cannot be written, Operation not permitted$"):
        write_whole(tmp_path / "x.npz", b"data")
    assert list(tmp_path.iterdir()) == []


@needs_shared
def test_detect_draws_what_mobiledet_finds(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEFLON_MODELS", str(MODELS))
    photo = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = {}
    for device in ("cpu", "sim:rk3588"):
        out = tmp_path / "boxes.png"
        argv = ["detect", "-i", str(photo), "-m", "mobiledet", "-o", str(out), "--device", device]
        assert main(argv) == 0
        lines = capsys.readouterr().out.splitlines()
        found[device] = re.findall(r"^\d\.\d{6}: (\w+) \(", "\n".join(lines), re.M)
        assert lines[-1] == f"{out}: 2 boxes"
        with Image.open(out) as drawn, Image.open(photo) as original:
            assert drawn.size == original.size
    assert found["cpu"] == found["sim:rk3588"] == ["person", "tie"]


@needs_shared
def test_classify_names_the_uniform(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEFLON_MODELS", str(MODELS))
    photo = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    argv = ["classify", "-i", str(photo), "-m", "mobilenet_v1", "-l", "mobilenet_v1_labels"]
    assert main([*argv, "--device", "sim:rk3588"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(": military uniform")


def test_bench_on_several_cores(capsys: Capture) -> None:
    argv = ["bench", "digits_int8", "--device", "sim:rk3588", "--runs", "2", "--json"]
    assert main([*argv, "--cores", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] == "3"
    assert found["per_second"] > 0
    assert main(argv) == 0
    assert "per_second" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["run", "bench"])
def test_more_cores_than_the_chip_has(command: str, capsys: Capture) -> None:
    assert main([command, "digits_int8", "--device", "sim:a311d", "--cores", "2"]) == 1
    text = "teflon: option cores: is 2, must be 1 or all (a311d has one core)\n"
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize("shape", [(1, 6, 4, 3), (1, 3, 6, 4)])
def test_pictures_fit_both_layouts(shape: tuple[int, ...], image: Path) -> None:
    picture = images.read_image(image).resize((4, 6))
    array = images.to_input(picture, TensorType(DType.UINT8, shape))
    assert array.shape == shape
    upright = array if shape[3] == 3 else array.transpose(0, 2, 3, 1)
    assert np.array_equal(upright[0], np.asarray(picture))
    assert images.image_size(TensorType(DType.UINT8, shape)) == (6, 4, 3)
