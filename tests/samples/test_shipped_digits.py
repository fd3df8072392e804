"""The shipped digits models keep their promise on the held-out images."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from teflon.samples import digits
from tests import oracle


@oracle.needs_oracle
@pytest.mark.parametrize("variant", ["int8", "uint8"])
def test_accuracy_in_tflites_reference_kernels(variant: str) -> None:
    data = resources.files("teflon.samples").joinpath(f"data/digits_{variant}.tflite").read_bytes()
    assert len(data) < 60_000
    held_out = digits.held_out_set()
    inputs = digits.as_input(held_out.images, variant)
    reference = oracle.Oracle(data)
    right = 0
    for image, label in zip(inputs, held_out.labels, strict=True):
        (answer,) = reference.run([image[None]])
        right += int(np.argmax(answer) == label)
    assert right / len(inputs) >= 0.95
