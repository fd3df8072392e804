"""Pictures as calibration data: resized, and normalised as the model's training did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from teflon.errors import OptionError, did_you_mean
from teflon.ir.types import Array
from teflon.quantize.tensors import NCHW, NHWC, Input
from teflon.samples.images import read_image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Names of files in a folder that are taken for pictures."""


@dataclass(frozen=True)
class Normalization:
    """What becomes of a pixel of 0 to 255: (pixel - mean) / std, for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    """The order of the channels; `mean` and `std` have the same order."""

    def __str__(self) -> str:
        order = "BGR" if self.bgr else "RGB"
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return f"pixels from 0 to 255, {order}"
        return f"(pixel - {_shown(self.mean)}) / {_shown(self.std)}, {order}"


def _shown(values: Sequence[float]) -> str:
    texts = [f"{v:g}" for v in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


# Ref: torchvision.transforms, weights of ImageNet: mean 0.485, 0.456, 0.406, std 0.229, 0.224,
# 0.225 of pixels from 0 to 1. Keras, keras/src/applications/imagenet_utils.py: modes tf, torch
# and caffe. OpenAI CLIP, clip/clip.py. TFLite Model Maker, EfficientNet-Lite: mean 127, std 128
_IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_CLIP = Normalization((122.7709, 116.746, 104.0937), (68.5005, 66.6322, 70.3232))
_MINUS_1_TO_1 = Normalization((127.5,), (127.5,))
_0_TO_1 = Normalization((0.0,), (255.0,))
_RAW = Normalization((0.0,), (1.0,))
PRESETS: Mapping[str, Normalization] = {
    "tf": _MINUS_1_TO_1,
    "torchvision": _IMAGENET,
    "imagenet": _IMAGENET,
    "caffe": Normalization((103.939, 116.779, 123.68), (1.0,), bgr=True),
    "0..1": _0_TO_1,
    "unit": _0_TO_1,
    "0..255": _RAW,
    "none": _RAW,
    "efficientnet-lite": Normalization((127.0,), (128.0,)),
    "clip": _CLIP,
}
"""Name -> normalisation; several names where people use several."""
DEFAULT = "tf"
"""As `teflon run` and `teflon classify` do it."""


def normalization(
    preset: str | None, mean: Sequence[float] | None, std: Sequence[float] | None, bgr: bool
) -> Normalization:
    """Return what the options mean; `mean` and `std` replace those of the preset.

    A std below 1 means that both are of pixels from 0 to 1. Raises OptionError.
    """
    name = preset or DEFAULT
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise OptionError(
            f"--preset {name}: is not known, must be one of {known}{did_you_mean(name, PRESETS)}"
        )
    found = PRESETS[name]
    if (mean is None) != (std is None):
        raise OptionError("--mean and --std: one is given, must be both or none")
    if mean is not None and std is not None:
        scale = 255.0 if max(std) < 1 else 1.0
        found = Normalization(
            tuple(m * scale for m in mean), tuple(s * scale for s in std), bgr or found.bgr
        )
    return Normalization(found.mean, found.std, bgr) if bgr and not found.bgr else found


def layout_of(item: Input, wish: str | None) -> str:
    """Return NHWC or NCHW for an input that is to get pictures.

    Without a wish the axis of 1 or 3 channels decides; where both could be it, the one that models
    of the input's format have. Raises OptionError for an input that no picture fits.
    """
    shape = item.shape
    fits = {
        NHWC: len(shape) == 4 and shape[3] in (1, 3),
        NCHW: len(shape) == 4 and shape[1] in (1, 3),
    }
    if wish is not None and fits[wish]:
        return wish
    if wish is not None or not any(fits.values()):
        must = {NHWC: "[n, height, width, 1 or 3]", NCHW: "[n, 1 or 3, height, width]"}
        wanted = must[wish] if wish else " or ".join(must.values())
        raise OptionError(
            f"input {item.name!r}: is {item}, must be {wanted} for pictures (pass an .npz file)"
        )
    return item.layout if all(fits.values()) else next(k for k, good in fits.items() if good)


def as_array(path: Path, item: Input, layout: str, how: Normalization) -> Array:
    """Return a picture as float32 or the input's integers, without the batch axis.

    float inputs get normalised pixels, uint8 inputs the pixels, int8 inputs the pixels minus 128,
    as `teflon run` does it. Raises OptionError for a picture that cannot be read.
    """
    height, width, channels = _size(item, layout)
    image = read_image(path).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.uint8)
    pixels = pixels.reshape(height, width, channels)
    if how.bgr:
        pixels = pixels[..., ::-1]
    array = _converted(pixels, item, how)
    return np.ascontiguousarray(array.transpose(2, 0, 1) if layout == NCHW else array)


def check(item: Input, layout: str, how: Normalization) -> None:
    """Raise OptionError if an input has other channels than the normalisation, or another type."""
    _, _, channels = _size(item, layout)
    for name, values in (("mean", how.mean), ("std", how.std)):
        if len(values) not in (1, channels):
            raise OptionError(
                f"input {item.name!r}: has {channels} channel{'s' if channels > 1 else ''}, must"
                f" have {len(values)} for {len(values)} values of {name} (--mean, --std, --preset)"
            )
    if item.dtype.kind != "f" and item.dtype not in (np.uint8, np.int8):
        raise OptionError(
            f"input {item.name!r}: is {item.dtype}, must be float, uint8 or int8 for pictures"
        )


def _size(item: Input, layout: str) -> tuple[int, int, int]:
    axes = (1, 2, 3) if layout == NHWC else (2, 3, 1)
    found = [item.shape[axis] for axis in axes]
    if None in found:
        raise OptionError(
            f"input {item.name!r}: is {item}, must have a fixed height and width for pictures"
            f" (--shape {item.name}=N,N,...)"
        )
    height, width, channels = (int(n or 0) for n in found)
    return height, width, channels


def _converted(pixels: Array, item: Input, how: Normalization) -> Array:
    if item.dtype == np.uint8:
        return pixels
    if item.dtype == np.int8:
        return (pixels.astype(np.int16) - 128).astype(np.int8)
    mean, std = np.asarray(how.mean, np.float32), np.asarray(how.std, np.float32)
    return ((pixels.astype(np.float32) - mean) / std).astype(item.dtype)
