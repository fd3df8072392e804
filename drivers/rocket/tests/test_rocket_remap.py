"""The C loop of passes of the DPU against numpy, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from teflon_rocket.simulator import _units


@st.composite
def grids(draw: st.DrawFn) -> tuple[NDArray[np.int8], ...]:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    cubes = []
    for _ in range(3):
        steps = draw(st.tuples(*[st.integers(1, 2)] * 3))
        room = [(n - 1) * s + 1 for n, s in zip(shape, steps, strict=True)]
        memory = rng.integers(-128, 128, (*room, 16), np.int8)
        cubes.append(memory[:: steps[0], :: steps[1], :: steps[2]])
    return tuple(cubes)


@settings(max_examples=80)
@given(grids(), st.sampled_from(["copy", "one", "each", "pairs"]), st.booleans())
def test_the_loop(cubes: tuple[NDArray[np.int8], ...], kind: str, spread: bool) -> None:
    """Bytes by tables, for any strides; an operand may be one pixel for all."""
    x, other, y = cubes
    rng = np.random.default_rng(len(x))
    if spread:
        other = np.broadcast_to(other[:, :1, :1], other.shape)
    channels = {"each": x.shape[0] * 16}.get(kind, 1)
    size = 1 << 16 if kind == "pairs" else 256
    results = rng.integers(-128, 128, (channels, size), np.int8)
    index = x.astype(np.int64) + 128
    if kind == "pairs":
        index += (other.astype(np.int64) + 128) * 256
    lane = np.arange(x.shape[0] * 16).reshape(-1, 1, 1, 16) if kind == "each" else 0
    want = x if kind == "copy" else results[lane, index]
    _units.remap(x, other if kind == "pairs" else None, None if kind == "copy" else results, y)
    np.testing.assert_array_equal(y, want)


X = np.zeros((2, 3, 4, 16), np.int8)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((X, None, None, X[:1]), "remap: shapes of features, operand, results, out differ"),
        ((X, X, None, X.copy()), "remap: shapes"),
        ((X, X[:, :2], np.zeros((1, 65536), np.int8), X.copy()), "remap: shapes"),
        ((X, None, np.zeros((3, 256), np.int8), X.copy()), "remap: shapes"),
        ((X, X, np.zeros((1, 256), np.int8), X.copy()), "remap: shapes"),
        ((X[..., ::-1], None, None, X.copy()), "features: a pixel must be 16 bytes"),
        ((X[..., :8], None, None, X.copy()), "features: a pixel must be 16 bytes"),
        ((X, None, np.zeros((1, 256), np.int16), X.copy()), "results: has 2 dimensions of 'h'"),
    ],
)
def test_the_loop_refuses_wrong_arguments(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _units.remap(*arguments)
