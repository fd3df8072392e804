"""The images of handwritten digits for the shipped model, in a training set and a test set.

They come from scikit-learn, which must be installed for them; the package does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import ModelError

HELD_OUT_EVERY = 5
"""Images 4, 9, 14, ... of the data set are for tests; the model was not trained with them."""


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 8, 8, 1], from 0 (paper) to 255 (ink), and labels [N], 0 to 9."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.intp]


@cache
def _all() -> Digits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModelError(
            "digits: scikit-learn is not installed, must be installed for its images"
            " (pip install scikit-learn)"
        ) from error
    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Digits(images, bunch.target.astype(np.intp))


def _select(held_out: bool) -> Digits:
    every = _all()
    mask = (np.arange(len(every.labels)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out
    return Digits(every.images[mask], every.labels[mask])


def training_set() -> Digits:
    """Return the 1438 images for training. Raises ModelError without scikit-learn."""
    return _select(held_out=False)


def held_out_set() -> Digits:
    """Return the 359 images for tests. Raises ModelError without scikit-learn."""
    return _select(held_out=True)


def as_float(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return pixels as numbers from 0 to 1, with which the network was trained."""
    return (images / 255).astype(np.float32)


def as_input(images: npt.NDArray[np.uint8], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return pixels in the quantised model's input type: uint8, or int8 with 128 subtracted."""
    if np.dtype(dtype) == np.uint8:
        return images
    return (images.astype(np.int16) - 128).astype(np.int8)
