"""Compiled models: written once, run without the model; wrong or damaged ones are refused."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.compile import teflon_file
from teflon.compile.source import read_graph
from teflon.errors import ModelError, ProgramError
from teflon.frontend.tflite.reader import read
from teflon.ir import Array
from teflon.samples import models
from tests.paths import MODELS

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("aot") / "digits.teflon", "digits_int8")


def make(path: Path, model: str, *more: str, device: str = "rk3588") -> Path:
    assert main(["compile", model, "--device", device, "-o", str(path), *more]) == 0
    return path


def outputs(path: str | Path, device: str = "sim:rk3588") -> dict[str, Array]:
    with teflon.load(path, device) as model:
        rng = np.random.default_rng(3)
        given = {i.name: rng.integers(0, 100, i.shape).astype(i.dtype) for i in model.inputs}
        return model(given)


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["digits_int8", "digits_uint8"])
@pytest.mark.parametrize("more", [(), ("--whole",)], ids=["programs", "whole"])
def test_a_compiled_model_computes_the_same(tmp_path: Path, name: str, more: tuple[str]) -> None:
    path = make(tmp_path / "m.teflon", name, *more)
    assert same(outputs(path), outputs(models.resolve(name)))


@pytest.mark.parametrize("name", ["digits_int8", "digits_uint8"])
@pytest.mark.parametrize("more", [(), ("--whole",)], ids=["programs", "whole"])
def test_a_model_that_is_compiled_for_the_cpu(tmp_path: Path, name: str, more: tuple[str]) -> None:
    path = make(tmp_path / "m.teflon", name, *more, device="cpu")
    computed = outputs(path, "cpu")
    assert same(computed, outputs(models.resolve(name), "cpu"))
    assert len(set(computed["probability"].reshape(-1).tolist())) > 1


def test_a_file_for_the_cpu_without_its_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        teflon_file, "_device_constants", lambda artefact: set(artefact.plan.graph.constants)
    )
    path = make(tmp_path / "m.teflon", "digits_int8", device="cpu")
    with pytest.raises(ProgramError, match=r"is damaged, a constant is missing \(compile the mo"):
        teflon.load(path, "cpu")


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name", ["mobilenet_v1_1.0_224_quant", "ssdlite_mobiledet_coco_qat_postprocess", "yolox"]
)
def test_compiled_public_models_compute_the_same(tmp_path: Path, name: str) -> None:
    assert MODELS
    source = MODELS / f"{name}.tflite"
    path = make(tmp_path / "m.teflon", str(source))
    assert same(outputs(path), outputs(source))


def test_the_report_is_the_same(digits: Path) -> None:
    model = models.resolve("digits_int8")
    with teflon.load(digits, "rk3588") as mine, teflon.load(model, "rk3588") as theirs:
        assert mine.report().as_dict() == theirs.report().as_dict()
        assert mine.inputs == theirs.inputs
        assert mine.outputs == theirs.outputs


def test_loading_it_compiles_nothing(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from teflon_rocket.device import RocketDevice

    def never(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(RocketDevice, "compile", never)
    assert outputs(digits)


def test_the_commands_accept_it(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    for argv in (
        ["run", str(digits), "--device", "sim:rk3588", "-o", str(tmp_path / "o.npz")],
        ["bench", str(digits), "--device", "sim:rk3588", "--runs", "1"],
        ["check", str(digits)],
        ["check", str(digits), "--device", "rk3588"],
        ["dump", str(digits)],
    ):
        assert main(argv) == 0, argv
    assert "CNA.CONV_CON3" in capsys.readouterr().out


def test_compare_needs_the_weights(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["compare", str(digits), "--device", "sim:rk3588"]) == 1
    assert (
        "has programs for rk3588 but not the weights of these operations" in capsys.readouterr().err
    )
    assert main(["dump", str(digits), "--data"]) == 1
    whole = make(tmp_path / "whole.teflon", "digits_int8", "--whole")
    assert main(["compare", str(whole), "--device", "sim:rk3588"]) == 0
    assert whole.stat().st_size > digits.stat().st_size


def test_it_is_not_compiled_twice(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["compile", str(digits), "--device", "rk3588", "-o", str(tmp_path / "again")]
    assert main(argv) == 1
    assert "is compiled already, must be a model" in capsys.readouterr().err


def test_an_old_file_stays_after_a_failure(digits: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.teflon"
    target.write_bytes(digits.read_bytes())
    assert main(["compile", str(tmp_path), "--device", "rk3588", "-o", str(target)]) == 1
    assert target.read_bytes() == digits.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["m.teflon"]


# Refusals


def test_another_target_is_refused(digits: Path) -> None:
    with pytest.raises(ProgramError, match="is compiled for rocket rk3588, must be for cpu \\("):
        teflon.load(digits, "cpu")


def test_another_driver_version_is_refused(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from teflon_rocket import program

    old = program.VERSION
    monkeypatch.setattr(program.RocketProgram, "version", "99")
    with pytest.raises(ProgramError, match=f"driver version is '{old}', must be '99'"):
        teflon.load(digits, "rk3588")


def test_another_format_is_refused(digits: Path, tmp_path: Path) -> None:
    data = bytearray(digits.read_bytes())
    data[8] = 7
    with pytest.raises(ProgramError, match="format is 7, must be 1"):
        load_bytes(tmp_path, bytes(data))


def test_a_missing_driver_is_named(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    changed = described(digits, lambda plain: plain.update(driver="stranger"))
    (tmp_path / "m.teflon").write_bytes(changed)
    assert main(["dump", str(tmp_path / "m.teflon")]) == 1
    assert "its driver 'stranger' is not installed, must be installed" in capsys.readouterr().err


def test_reading_its_graph_is_refused(digits: Path) -> None:
    with pytest.raises(ModelError, match="has programs for rk3588 but not the weights"):
        read_graph(digits)
    with pytest.raises(ModelError, match="a compiled model of `teflon compile`"):
        read(digits.read_bytes())


def load_bytes(folder: Path, data: bytes) -> None:
    path = folder / "m.teflon"
    path.write_bytes(data)
    with teflon.load(path, "rk3588"):
        pass


def described(path: Path, change: Any) -> bytes:
    """Return a file with another description, whose checksum is right."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    plain = json.loads(data[32 : 32 + length])
    body = data[32 + length + -(32 + length) % 64 :]
    change(plain)
    text = json.dumps(plain).encode()
    gap = bytes(-(32 + len(text)) % 64)
    size = 32 + len(text) + len(gap) + len(body)
    head = struct.pack("<8sIIIIQ", b"TEFLONMO", 1, len(text), zlib.crc32(text), 0, size)
    return head + text + gap + body


def test_any_damaged_byte_is_refused(digits: Path, tmp_path: Path) -> None:
    """Every byte matters, except the padding between sections."""
    data = digits.read_bytes()
    rng = random.Random(0)
    refused = 0
    places = [*range(0, 64), *(rng.randrange(64, len(data)) for _ in range(150))]
    for at in places:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        try:
            load_bytes(tmp_path, bytes(broken))
        except (ProgramError, ModelError):
            refused += 1
    assert refused > 0.9 * len(places)


@pytest.mark.parametrize("size", [0, 1, 8, 31, 32, 100, -1, -64, -5000])
def test_a_truncated_file_is_refused(digits: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises((ProgramError, ModelError)):
        load_bytes(tmp_path, digits.read_bytes()[:size])
    with pytest.raises(ProgramError):
        load_bytes(tmp_path, digits.read_bytes() + bytes(max(size, 1)))


def _spoil(item: Any, rng: random.Random) -> Any:
    """Return JSON with something else in one place."""
    if isinstance(item, dict) and item and rng.random() < 0.9:
        key = rng.choice(list(item))
        if rng.random() < 0.1:
            return {k: v for k, v in item.items() if k != key}
        return {**item, key: _spoil(item[key], rng)}
    if isinstance(item, list) and item and rng.random() < 0.9:
        at = rng.randrange(len(item))
        return [*item[:at], _spoil(item[at], rng), *item[at + 1 :]]
    return rng.choice([None, -1, 0, 1 << 40, 1.5, "", "x", [], {}, [[]], {"value": 0}, True, 7])


@pytest.mark.parametrize("seed", range(300))
def test_wrong_content_with_a_right_checksum(digits: Path, tmp_path: Path, seed: int) -> None:
    """The checksum is right and the content is not: a ProgramError, or nothing that counts."""
    rng = random.Random(seed)

    def change(plain: dict[str, Any]) -> None:
        spoiled = _spoil(plain, rng)
        plain.clear()
        plain.update(spoiled if isinstance(spoiled, dict) else {})

    with contextlib.suppress(ProgramError):
        load_bytes(tmp_path, described(digits, change))


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        teflon.load(tmp_path / "none.teflon", "rk3588")
    with pytest.raises(ProgramError, match="cannot be read"):
        teflon_file.open_file(tmp_path / "none.teflon")
