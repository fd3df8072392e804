"""Pictures for models: the photos that packages ship, cropped and shifted, the same each time."""

from __future__ import annotations

import importlib.resources
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from teflon.errors import ModelError
from teflon.ir.types import TensorType
from teflon.samples.images import image_size, read_image

PHOTOS = (
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
"""Package and file: a portrait, a temple, a flower."""

_LEAST = 0.45  # of a photo's sides that a crop has


@cache
def photos() -> tuple[Image.Image, ...]:
    """Return the photos whose packages are installed."""
    found = []
    for package, name in PHOTOS:
        if importlib.util.find_spec(package) is not None:
            found.append(read_image(Path(str(importlib.resources.files(package) / name))))
    return tuple(found)


def crops(count: int) -> Iterator[Image.Image]:
    """Yield pictures cut out of the photos in turn, at random places and in random sizes."""
    rng, sources = np.random.default_rng(50), photos()
    for number in range(count if sources else 0):
        photo = sources[number % len(sources)]
        width, height = (int(side * rng.uniform(_LEAST, 1)) for side in photo.size)
        left = int(rng.integers(0, photo.width - width + 1))
        top = int(rng.integers(0, photo.height - height + 1))
        yield photo.crop((left, top, left + width, top + height))


def takes_pictures(kind: TensorType) -> bool:
    """Return whether an input can be a picture: NHWC or NCHW, of 1 or 3 channels."""
    try:
        height, width, _ = image_size(kind)
    except ModelError:
        return False
    return min(height, width) > 1
