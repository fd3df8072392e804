"""The digits of the shipped model: scikit-learn's, every fifth of them held out for testing.

scikit-learn is needed for the images only; it is not a dependency of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import ModelError

HELD_OUT_EVERY = 5
"""Images 4, 9, 14, ... of the data set were never seen in training."""


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 8, 8, 1], 0 paper to 255 ink; labels [N], 0 to 9."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.intp]


@cache
def _all() -> Digits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModelError(
            "digits: scikit-learn is not installed, must be there for its images"
            " (pip install scikit-learn)"
        ) from error
    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Digits(images, bunch.target.astype(np.intp))


def _where(held_out: bool) -> Digits:
    every = _all()
    chosen = (np.arange(len(every.labels)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out
    return Digits(every.images[chosen], every.labels[chosen])


def training_set() -> Digits:
    """Return the 1438 images to train on. Raises ModelError without scikit-learn."""
    return _where(held_out=False)


def held_out_set() -> Digits:
    """Return the 359 images to test with. Raises ModelError without scikit-learn."""
    return _where(held_out=True)


def as_float(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return pixels as 0 to 1, what the network was trained on."""
    return (images / 255).astype(np.float32)


def as_input(images: npt.NDArray[np.uint8], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return pixels as the quantised model's input type: uint8 as they are, int8 less 128."""
    if np.dtype(dtype) == np.uint8:
        return images
    return (images.astype(np.int16) - 128).astype(np.int8)
