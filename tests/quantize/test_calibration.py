"""Calibration data: what is found, in which order, how it is converted, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from teflon.errors import OptionError
from teflon.ir.types import DType, TensorType
from teflon.quantize.calibration import Reading, _spread, read_samples
from teflon.quantize.pictures import PRESETS, Normalization, layout_of, normalization
from teflon.quantize.tensors import NCHW, NHWC, Input
from teflon.samples.images import read_image, to_input

F32 = np.dtype(np.float32)
NHWC_INPUT = Input("x", (1, 4, 6, 3), F32)
NCHW_INPUT = Input("x", (1, 3, 4, 6), F32, NCHW)


def save(folder: Path, *names: str) -> None:
    rng = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(path)


def test_pictures_are_found_in_order_also_in_subfolders(tmp_path: Path) -> None:
    save(tmp_path, "b/2.png", "a/1.bmp", "c.png", ".hidden/0.png")
    (tmp_path / "labels.txt").write_text("no picture")
    samples = read_samples(tmp_path, [NHWC_INPUT], Reading())
    want = [(read_image(tmp_path / name)) for name in ("a/1.bmp", "b/2.png", "c.png")]
    have = [sample["x"] for sample in samples]
    assert len(samples) == 3
    for array, image in zip(have, want, strict=True):
        assert array.dtype == F32
        np.testing.assert_allclose(array[0], np.asarray(image) / 127.5 - 1, atol=1e-6)
    again = [sample["x"] for sample in samples]
    assert all(np.array_equal(a, b) for a, b in zip(have, again, strict=True))
    assert samples.source == f"3 pictures of {tmp_path}: (pixel - 127.5) / 127.5, RGB, NHWC"


def test_a_picture_becomes_what_teflon_run_makes_of_it(tmp_path: Path) -> None:
    """The default normalisation, and the same resizing."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 20, 3), np.uint8)).save(
        tmp_path / "p.png"
    )
    want = to_input(read_image(tmp_path / "p.png"), TensorType(DType.FLOAT32, (1, 4, 6, 3)))
    (sample,) = read_samples(tmp_path, [NHWC_INPUT], Reading())
    np.testing.assert_allclose(sample["x"], want, atol=1e-6)


def test_nchw_pictures_have_channels_before(tmp_path: Path) -> None:
    save(tmp_path, "p.png")
    pixels = np.asarray(read_image(tmp_path / "p.png"), np.float32)
    how = Reading(normalization=PRESETS["torchvision"])
    (sample,) = read_samples(tmp_path / "p.png", [NCHW_INPUT], how)
    # torchvision's own words: pixels to 0..1, less the mean, by the deviation
    want = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert sample["x"].shape == (1, 3, 4, 6)
    np.testing.assert_allclose(sample["x"][0].transpose(1, 2, 0), want, atol=1e-5)


def test_caffe_is_bgr_less_the_mean(tmp_path: Path) -> None:
    save(tmp_path, "p.png")
    pixels = np.asarray(read_image(tmp_path / "p.png"), np.float32)
    (sample,) = read_samples(tmp_path, [NHWC_INPUT], Reading(normalization=PRESETS["caffe"]))
    want = pixels[..., ::-1] - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(sample["x"][0], want, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "shift"), [(np.uint8, 0), (np.int8, -128)], ids=["uint8", "int8"]
)
def test_integer_inputs_get_pixels(dtype: type, shift: int, tmp_path: Path) -> None:
    save(tmp_path, "p.png")
    item = Input("x", (1, 4, 6, 3), np.dtype(dtype))
    (sample,) = read_samples(tmp_path, [item], Reading())
    pixels = np.asarray(read_image(tmp_path / "p.png"), np.int16)
    assert np.array_equal(sample["x"][0], pixels + shift)


def test_pictures_fill_batches(tmp_path: Path) -> None:
    save(tmp_path, *(f"{n}.png" for n in range(7)))
    item = Input("x", (3, 4, 6, 3), F32)
    samples = read_samples(tmp_path, [item], Reading(count=1))
    assert [s["x"].shape for s in samples] == [(3, 4, 6, 3)]
    assert len(read_samples(tmp_path, [item], Reading())) == 2


@given(total=st.integers(1, 1000), count=st.none() | st.integers(1, 1000))
def test_samples_are_spread_evenly(total: int, count: int | None) -> None:
    found = _spread(total, count)
    assert len(found) == (total if count is None else min(count, total))
    assert found[0] == 0
    assert found[-1] < total
    steps = set(np.diff(found).tolist())
    assert len(steps) <= 2
    assert min(steps, default=1) >= 1
    assert max(steps, default=1) - min(steps, default=1) <= 1


@pytest.mark.parametrize(
    ("shape", "layout", "wish", "want"),
    [
        ((1, 224, 224, 3), NHWC, None, NHWC),
        ((1, 3, 224, 224), NHWC, None, NCHW),
        ((1, 1, 32, 32), NCHW, None, NCHW),
        ((1, 3, 8, 3), NCHW, None, NCHW),
        ((1, 3, 8, 3), NHWC, None, NHWC),
        ((1, 3, 8, 3), NCHW, NHWC, NHWC),
        ((None, 3, None, None), NCHW, None, NCHW),
    ],
)
def test_the_layout_is_found_in_the_shape(
    shape: tuple[int | None, ...], layout: str, wish: str | None, want: str
) -> None:
    assert layout_of(Input("x", shape, F32, layout), wish) == want


def test_a_small_deviation_is_of_pixels_from_0_to_1() -> None:
    given_ = normalization(None, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False)
    want = PRESETS["imagenet"]
    np.testing.assert_allclose(given_.mean, want.mean, rtol=1e-6)
    np.testing.assert_allclose(given_.std, want.std, rtol=1e-6)
    assert normalization(None, [127], [128], False) == Normalization((127,), (128,))
    assert normalization("unit", None, None, True) == Normalization((0.0,), (255.0,), True)
    assert str(PRESETS["none"]) == "pixels from 0 to 255, RGB"


def test_arrays_of_one_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 6, 3))
    files: dict[str, dict[str, Any]] = {"named.npz": {"x": x}, "one.npz": {"other": x}}
    for name, arrays in files.items():
        np.savez(tmp_path / name, **arrays)
        samples = read_samples(tmp_path / name, [NHWC_INPUT], Reading())
        assert len(samples) == 5
        for sample, row in zip(samples, x.astype(np.float32), strict=True):
            assert np.array_equal(sample["x"], row[None])
    np.save(tmp_path / "x.npy", x[:, None])  # the batch axis may be there
    samples = read_samples(tmp_path / "x.npy", [NHWC_INPUT], Reading(count=2))
    assert [s["x"].shape for s in samples] == [(1, 4, 6, 3)] * 2
    assert samples.source == f"2 of 5 samples of {tmp_path / 'x.npy'}"


def test_arrays_of_a_folder_and_of_two_inputs(tmp_path: Path) -> None:
    items = [Input("a", (1, 2), F32), Input("n", (), np.dtype(np.int32))]
    for number in range(3):
        a = np.full((2, 2), number, np.float32)
        np.savez(tmp_path / f"{number}.npz", a=a, n=np.arange(2) + 10 * number)
    found = [(s["a"].tolist(), int(s["n"])) for s in read_samples(tmp_path, items, Reading())]
    want = [([[float(k)] * 2], 10 * k + n) for k in range(3) for n in range(2)]
    assert found == want


BAD = [
    ({}, NHWC_INPUT, "holds no pictures and no arrays, must have files of .bmp"),
    ({"a.png": b"nothing"}, NHWC_INPUT, "a.png: is not a picture that pillow can read"),
    ({"a.npz": b"nothing"}, NHWC_INPUT, "a.npz: is not a readable .npz file"),
    ({"a.npz": b"", "b.png": b""}, NHWC_INPUT, "holds pictures (b.png) and arrays (a.npz), must"),
    (
        {"a.png": b""}, Input("x", (1, 4, 6, 4), F32),
        "is float32[1, 4, 6, 4], must be [n, height, width, 1 or 3] or [n, 1 or 3, height, width]",
    ),
    ({"a.png": b""}, Input("x", (1, 640), F32), "for pictures (pass an .npz file)"),
    ({"a.png": b""}, Input("x", (4, 4, 6, 3), F32), "has 1 pictures, must have at least 4"),
    (
        {"a.png": b""}, Input("x", (1, 3, None, 6), F32),
        "must have a fixed height and width for pictures (--shape x=N,N,...)",
    ),
    ({"a.png": b""}, Input("x", (1, 4, 6, 3), np.dtype(np.int32)), "must be float, uint8 or int8"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "item", "text"), BAD, ids=[b[2][:30] for b in BAD])
def test_bad_folders(files: dict[str, bytes], item: Input, text: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OptionError, match=re.escape(text)):
        list(read_samples(tmp_path, [item], Reading()))


def test_presets_and_channels_must_fit(tmp_path: Path) -> None:
    save(tmp_path, "p.png")
    grey = Input("x", (1, 4, 6, 1), F32)
    with pytest.raises(OptionError, match="has 1 channel, must have 3 for 3 values of mean"):
        read_samples(tmp_path, [grey], Reading(normalization=PRESETS["imagenet"]))
    with pytest.raises(
        OptionError, match=r"--preset torch: is not known.*did you mean torchvision"
    ):
        normalization("torch", None, None, False)
    with pytest.raises(OptionError, match="one is given, must be both or none"):
        normalization(None, [1.0], None, False)
    with pytest.raises(OptionError, match=r"must be \.npz files for a model with 2 inputs"):
        read_samples(tmp_path, [grey, NHWC_INPUT], Reading())
    with pytest.raises(OptionError, match="does not exist, must be a folder"):
        read_samples(tmp_path / "none", [grey], Reading())


NAN = np.array([[np.nan, 0]])
ARRAYS = [
    ({"y": np.zeros((2, 2)), "z": NAN}, "has no array 'x', must have one for each input of the"),
    ({"x": np.zeros((2, 3), np.float32)}, "is float32[2, 3], must be float32[samples, 2]"),
    ({"x": np.zeros((2, 2), np.uint8)}, "is uint8, must be float32 (the numbers that the model"),
    ({"x": NAN}, "has numbers that are not finite"),
    ({"x": np.zeros((0, 2))}, "has no samples"),
    ({"x": np.zeros((2, 2)), "n": np.zeros(3, int)}, "has 2 of 'x', 3 of 'n', must have as many"),
    ({"x": np.zeros((1, 2)), "n": np.array([1 << 40])}, "has numbers beyond int32"),
]


@pytest.mark.parametrize(("arrays", "text"), ARRAYS, ids=[text[:20] for _, text in ARRAYS])
def test_bad_arrays(arrays: dict[str, np.ndarray], text: str, tmp_path: Path) -> None:
    items = [Input("x", (1, 2), F32)]
    if "n" in arrays:
        items.append(Input("n", (), np.dtype(np.int32)))
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=re.escape(text)):
        read_samples(tmp_path / "a.npz", items, Reading())
