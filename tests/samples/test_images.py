"""Pictures as inputs: orientation, types, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teflon.errors import ModelError, OptionError
from teflon.ir.types import DType, TensorType
from teflon.samples import images


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = (255, 0, 0)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    return path


def kind(dtype: DType, *shape: int) -> TensorType:
    return TensorType(dtype, shape)


def test_types(picture: Path) -> None:
    image = images.read_image(picture)
    raw = images.to_input(image, kind(DType.UINT8, 1, 4, 8, 3))
    assert raw.dtype == np.uint8
    assert raw[0, 0, 0].tolist() == [255, 0, 0]
    signed = images.to_input(image, kind(DType.INT8, 1, 4, 8, 3))
    assert np.array_equal(signed.astype(int), raw.astype(int) - 128)
    real = images.to_input(image, kind(DType.FLOAT32, 1, 4, 8, 3), mean=100, std=50)
    assert real.dtype == np.float32
    assert real[0, 0, 0].tolist() == pytest.approx([3.1, -2, -2])


def test_resized_and_grey(picture: Path) -> None:
    grey = images.to_input(images.read_image(picture), kind(DType.UINT8, 1, 16, 16, 1))
    assert grey.shape == (1, 16, 16, 1)
    assert grey[0, 0, 0, 0] == 76  # luma of pure red


def test_exif_orientation_is_applied(tmp_path: Path, picture: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.open(picture).save(tmp_path / "turned.png", exif=exif)
    upright = images.read_image(tmp_path / "turned.png")
    assert upright.size == (4, 8)
    assert upright.getpixel((0, 0)) == (255, 0, 0)
    assert upright.getpixel((0, 7)) == (0, 0, 0)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.png: cannot be read, No such file"):
        images.read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(OptionError, match=r"text\.png: is not a picture that pillow can read$"):
        images.read_image(tmp_path / "text.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for length in range(0, len(whole) * 3 // 4, 7):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(OptionError, match=r"cut\.png: "):
            images.read_image(tmp_path / "cut.png")


def test_too_large_is_refused(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 31)
    with pytest.raises(OptionError, match=r"has 8x4 pixels, must have at most 31$"):
        images.read_image(picture)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 4, 3), (1, 4, 4, 7)])
def test_inputs_that_cannot_take_pictures(picture: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"^x: is u8.*must be \[1, height, width, 1 or 3\]"):
        images.to_input(images.read_image(picture), kind(DType.UINT8, *shape), name="x")
    with pytest.raises(ModelError, match=r"^x: is i32, must be u8, i8 or f32 for a picture$"):
        images.to_input(images.read_image(picture), kind(DType.INT32, 1, 2, 2, 3), name="x")
