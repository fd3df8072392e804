"""Converting feature maps between NHWC arrays and the layouts of NPUs."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from teflon.ir.types import Array

try:
    from teflon_common import _layout
except ImportError:  # built without a C compiler: numpy does the same more slowly
    _layout = None  # type: ignore[assignment]

Bytes = npt.NDArray[np.uint8]

LANES = 16
"""Channels of one surface: 16 int8 values, one 16-byte atom for each pixel."""


def surface_bytes(shape: tuple[int, int, int]) -> int:
    """Return the bytes of the surfaces of one (height, width, channels) image."""
    height, width, channels = shape
    return -(-channels // LANES) * height * width * LANES


def to_surfaces(image: Array, out: Bytes, flip: int = 0, fill: int = 0, pitch: int = 0) -> None:
    """Write one image as NC1HWC2 surfaces of 16 channels.

    image: (height, width, channels), one byte an element. out: at least as many bytes as the
    surfaces take; others stay unchanged. Each byte is XORed with `flip`; lanes without a channel
    get the byte `fill`, without `flip`. pitch: pixels from one surface to the next, 0 if there are
    none between them.
    """
    height, width, channels = image.shape
    pixels, full, rest = height * width, channels // LANES, channels % LANES
    pitch = pitch or pixels
    if _layout is not None:
        raw = np.ascontiguousarray(image).view(np.uint8)
        _layout.to_surfaces(raw, out, pixels, channels, pitch, flip, fill)
        return
    source = _flip(image, flip).reshape(pixels, channels)
    lanes = _lanes(out, pixels, channels, pitch)
    if full:
        _copy_full(source[:, : full * LANES], lanes[:full])
    if rest:
        lanes[full] = fill
        for lane in range(rest):  # at most 15 strided copies, each over all pixels
            lanes[full, :, lane] = source[:, full * LANES + lane]


def from_surfaces(raw: Bytes, out: Bytes, flip: int = 0, pitch: int = 0) -> None:
    """Read an image from the surfaces in `raw` into `out`.

    out: (height, width, channels), C-contiguous. pitch: as for `to_surfaces`.
    """
    height, width, channels = out.shape
    pixels, full, rest = height * width, channels // LANES, channels % LANES
    pitch = pitch or pixels
    if _layout is not None:
        _layout.from_surfaces(out, raw, pixels, channels, pitch, flip)
        return
    image = out.reshape(pixels, channels)
    lanes = _lanes(raw, pixels, channels, pitch)
    if full:
        _copy_full(image[:, : full * LANES], lanes[:full], back=True)
    for lane in range(rest):
        image[:, full * LANES + lane] = lanes[full, :, lane]
    if flip:
        np.bitwise_xor(image, np.uint8(flip), out=image)


def _lanes(raw: Bytes, pixels: int, channels: int, pitch: int) -> Bytes:
    """Return the surfaces in `raw` as (surfaces, pixels, 16), a view."""
    surfaces = -(-channels // LANES)
    if raw.size < ((surfaces - 1) * pitch + pixels) * LANES:
        raise ValueError(
            f"surfaces: have {raw.size} bytes, {surfaces} of {pitch} pixels do not fit"
        )
    return np.lib.stride_tricks.as_strided(
        raw, (surfaces, pixels, LANES), (pitch * LANES, LANES, 1), writeable=raw.flags.writeable
    )


def _copy_full(rows: Bytes, lanes: Bytes, back: bool = False) -> None:
    """Copy between (pixels, surfaces·16) and (surfaces, pixels, 16), 16 bytes at a time."""
    wide = rows.view(np.complex128).T  # any type of 16 bytes works: elements are only copied
    atoms = lanes.view(np.complex128)[:, :, 0]
    if back:
        wide[...] = atoms
    else:
        atoms[...] = wide


def to_rows(image: Array, out: Bytes, pitch: int, flip: int = 0, fill: int = 0) -> None:
    """Write a one-channel image as rows of `pitch` bytes, filled with `fill` after the last column.

    image: (height, width, 1), one byte an element; out: at least height·pitch bytes.
    """
    height, width, _ = image.shape
    rows = out[: height * pitch].reshape(height, pitch)
    rows[:, :width] = _flip(image, flip).reshape(height, width)
    rows[:, width:] = fill


def from_rows(raw: Bytes, out: Bytes, pitch: int, flip: int = 0) -> None:
    """Read an image from rows of `pitch` bytes in `raw` into `out`: (height, width, 1)."""
    height, width, _ = out.shape
    rows = raw[: height * pitch].reshape(height, pitch)[:, :width]
    np.bitwise_xor(rows, np.uint8(flip), out=out[:, :, 0])


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return (images, height, width, channels) of a tensor.

    Missing leading axes are 1; further leading axes count as images.
    """
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    return math.prod(padded[:-3]), padded[-3], padded[-2], padded[-1]


def _flip(image: Array, flip: int) -> Bytes:
    source = np.ascontiguousarray(image).view(np.uint8)
    return np.bitwise_xor(source, np.uint8(flip)) if flip else source
