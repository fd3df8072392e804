"""Loading maps files: weights and programs lie in pages of the file, not in copies of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.ir import Array
from teflon.run.runner import Runner
from teflon.samples import models
from teflon_common.program import BufferProgram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")

PATH = models.resolve("digits_int8")


def file_of(array: Array) -> str:
    """Return the file that an array's memory is mapped from; "" for the heap."""
    at = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, _, _, _, *name = line.split(maxsplit=5)
        low, high = (int(text, 16) for text in place.split("-"))
        if low <= at < high:
            return name[0] if name and name[0].startswith("/") else ""
    return ""


def constants(model: Runner) -> list[str]:
    """Return where the model's weights and biases are."""
    found = [v.data for v in model.graph.constants if v.data is not None]
    assert len(found) > 8
    return [file_of(array) for array in found]


def programs(model: Runner) -> list[str]:
    """Return where the content of the device's buffers is."""
    found = [p for p in model.programs if isinstance(p, BufferProgram)]
    assert found
    filled = [b.data for p in found for b in p.buffers if b.data is not None]
    assert filled
    return [file_of(np.frombuffer(data, np.uint8)) for data in filled]


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588", "sim:a311d"])
def test_weights_stay_in_the_model_file(device: str, tmp_path: Path) -> None:
    for state in ("cold", "warm"):
        with teflon.load(PATH, device, cache=tmp_path) as model:
            assert set(constants(model)) == {str(PATH)}, state


@pytest.mark.parametrize("device", ["sim:rk3588", "sim:a311d"])
def test_programs_stay_in_their_entries(device: str, tmp_path: Path) -> None:
    teflon.load(PATH, device, cache=tmp_path).close()
    with teflon.load(PATH, device, cache=tmp_path) as model:
        entries = {str(path) for path in tmp_path.glob("*.entry")}
        assert set(programs(model)) <= entries


@pytest.mark.parametrize("chip", ["rk3588", "a311d"])
def test_a_compiled_file_holds_everything(chip: str, tmp_path: Path) -> None:
    path = tmp_path / "m.teflon"
    assert main(["compile", str(PATH), "--device", chip, "--whole", "-o", str(path)]) == 0
    with teflon.load(path, f"sim:{chip}", cache="off") as model:
        assert set(constants(model)) == {str(path)}
        assert set(programs(model)) == {str(path)}


def test_the_measure_knows_the_heap() -> None:
    assert file_of(np.zeros(1 << 20, np.uint8)) == ""


@pytest.mark.parametrize("kind", ["tflite", "teflon"])
@pytest.mark.parametrize("how", ["replaced", "deleted"])
@pytest.mark.parametrize("device", ["cpu", "sim:rk3588"])
def test_a_file_may_be_replaced_or_deleted_while_its_model_is_used(
    kind: str, how: str, device: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{kind}"
    if kind == "tflite":
        path.write_bytes(Path(PATH).read_bytes())
    else:
        assert (
            main(["compile", str(PATH), "--device", device.removeprefix("sim:"), "-o", str(path)])
            == 0
        )
    image = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1), np.int8)
    with teflon.load(path, device, cache="off") as model:
        wanted = model.run(image)
        if how == "deleted":
            path.unlink()
        else:
            (tmp_path / "other").write_bytes(b"short")
            (tmp_path / "other").replace(path)
        np.testing.assert_array_equal(model.run(image), wanted)
