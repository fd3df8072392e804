"""Surfaces of 16 channels: layout of the bytes, and sizes that do not fit the buffers."""

from __future__ import annotations

import numpy as np
import pytest

from teflon_common import _layout


@pytest.mark.parametrize(
    ("pixels", "channels"),
    [
        (3, 3),
        (2, 17),
        (-1, 3),
        (2, 0),
        (2, -1),
        (1, 2**63 - 1),
        (2**62, 4),
        (2**59, 16),
        (0, 2**63 - 9),
    ],
)
def test_sizes_beyond_the_buffers(pixels: int, channels: int) -> None:
    image, raw = np.zeros(6, np.uint8), np.zeros(32, np.uint8)
    _layout.to_surfaces(image, raw, 2, 3, 2, 0, 0)
    _layout.from_surfaces(image, raw, 2, 3, 2, 0)
    with pytest.raises(ValueError, match=r"^image: has "):
        _layout.to_surfaces(image, raw, pixels, channels, pixels, 0, 0)
    with pytest.raises(ValueError, match=r"^image: has "):
        _layout.from_surfaces(image, raw, pixels, channels, pixels, 0)


@pytest.mark.parametrize(("flip", "fill"), [(0, 7), (0x80, 0xFF)])
@pytest.mark.parametrize("pitch", [5, 8])
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 32, 35])
def test_bytes_go_where_their_channel_is(channels: int, pitch: int, flip: int, fill: int) -> None:
    pixels, surfaces = 5, -(-channels // 16)
    image = (np.arange(pixels * channels) % 251).astype(np.uint8)
    size = ((surfaces - 1) * pitch + pixels) * 16
    raw, back = np.zeros(size, np.uint8), np.zeros_like(image)
    _layout.to_surfaces(image, raw, pixels, channels, pitch, flip, fill)
    for surface, pixel in np.ndindex(surfaces, pixels):
        atom = raw[(surface * pitch + pixel) * 16 :][:16].tolist()
        part = image[pixel * channels : (pixel + 1) * channels][surface * 16 :][:16].tolist()
        assert atom == [n ^ flip for n in part] + [fill] * (16 - len(part))
    _layout.from_surfaces(back, raw, pixels, channels, pitch, flip)
    assert (back == image).all()


def test_nothing_is_written_between_surfaces() -> None:
    raw = np.full(8 * 16 + 5 * 16, 77, np.uint8)
    _layout.to_surfaces(np.zeros(5 * 17, np.uint8), raw, 5, 17, 8, 0, 0)
    assert (raw[5 * 16 : 8 * 16] == 77).all()
