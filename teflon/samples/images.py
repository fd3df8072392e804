"""Pictures as model inputs: read a file, turn and resize the picture, convert its type."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from teflon.errors import ModelError, OptionError
from teflon.ir.types import Array, DType, TensorType

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""


def read_image(path: str | Path) -> Image.Image:
    """Return a picture as RGB, upright by its EXIF orientation.

    Raises OptionError if the file is missing, unreadable, not a picture, or too large.
    """
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
            if image.width * image.height > MAX_PIXELS:
                raise OptionError(
                    f"{path}: has {image.width}x{image.height} pixels,"
                    f" must have at most {MAX_PIXELS}"
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise OptionError(f"{path}: is not a picture that pillow can read") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"{path}: cannot be read, {reason}") from error
    except (ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise OptionError(f"{path}: is a damaged picture, {error}") from error


def image_size(kind: TensorType, name: str = "input") -> tuple[int, int, int]:
    """Return (height, width, channels) of an input for pictures, NHWC or NCHW.

    Raises ModelError if a picture does not fit the input's shape.
    """
    shape = kind.shape
    if len(shape) != 4 or shape[0] != 1 or not {1, 3}.intersection((shape[1], shape[3])):
        raise ModelError(
            f"{name}: is {kind.dtype.value}{list(shape)}, must be [1, height, width, 1 or 3] or"
            " [1, 1 or 3, height, width] for a picture (pass an .npy file instead)"
        )
    _, *sides = shape
    height, width, channels = (*sides[1:], sides[0]) if channels_first(kind) else sides
    return height, width, channels


def channels_first(kind: TensorType) -> bool:
    """Whether an input for pictures is NCHW; one that could be both is NHWC."""
    return kind.shape[3] not in (1, 3)


def to_input(
    image: Image.Image,
    kind: TensorType,
    mean: float = 127.5,
    std: float = 127.5,
    name: str = "input",
) -> Array:
    """Return a picture as an array for an input: resized, in its element type and layout.

    uint8 inputs get the pixels unchanged and int8 inputs the pixels minus 128, for any scale, as
    TFLite's own example programs do. float32 inputs get (pixel - mean) / std. Raises ModelError if
    a picture does not fit the input's shape or type.
    """
    height, width, channels = image_size(kind, name)
    sized = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    pixels = np.asarray(sized, np.uint8).reshape(1, height, width, channels)
    found = from_pixels(pixels, kind.dtype, mean, std, name)
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2)) if channels_first(kind) else found


def from_pixels(
    pixels: npt.NDArray[np.uint8], dtype: DType, mean: float, std: float, name: str
) -> Array:
    """Convert pixels to an input's element type, as `to_input` does."""
    if dtype is DType.UINT8:
        return pixels
    if dtype is DType.INT8:
        return (pixels.astype(np.int16) - 128).astype(np.int8)
    if dtype is DType.FLOAT32:
        return ((pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)).astype(np.float32)
    raise ModelError(f"{name}: is {dtype.value}, must be u8, i8 or f32 for a picture")
