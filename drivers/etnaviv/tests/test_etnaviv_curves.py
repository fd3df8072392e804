"""Tables for any function of a byte, read as the simulated TP cores read them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.types import Array
from teflon_etnaviv import _knots
from teflon_etnaviv.chips import chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.simulator import tp
from teflon_etnaviv.tensors import Tensor
from teflon_etnaviv.tp.curves import Curve, curves
from teflon_etnaviv.tp.tables import Fitted

BYTES = np.arange(256)
SHAPES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "half": lambda x: x / 2,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hard swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "exp": np.exp,
    "square": np.square,
    "clamp": lambda x: np.clip(x, -1, 1),
    "root": lambda x: np.sqrt(np.maximum(x, 0)),
}


def read(curve: Curve) -> Array:
    """What the simulator's reading of one table gives for the 256 bytes."""
    flat = Tensor("x", (1, 1, 1, 256), np.float32(1), 0, False)
    compiled = Fitted("table", (flat,), (flat,), curve=curve).compile(chip("a311d"))
    assert compiled.constants is not None
    raw = np.frombuffer(compiled.constants, np.uint8)
    instruction = compiled.jobs[0].instruction
    assert isinstance(instruction, TPInstruction)
    found: Array = tp._mapping(instruction, raw, "job").astype(int)
    return found


def total(found: tuple[Curve, ...]) -> Array:
    added: Array = np.sum([read(found[0]), *(read(curve) - 128 for curve in found[1:])], axis=0)
    return added


@functools.lru_cache
def function(name: str, scale: float, zero: int, room: float) -> bytes:
    """A function as a model has it: an input's scale and zero point, an output that holds it all,
    or more than it (room above 1), or less.
    """
    real = SHAPES[name]((BYTES - zero) * scale)
    span = max(float(np.ptp(real)), 1e-6) * room / 255
    steps = np.rint(real / span)
    return bytes(np.clip(steps - steps.min(), 0, 255).astype(np.uint8))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)), st.floats(0.001, 0.2), st.integers(0, 255), st.floats(0.5, 3)
)
def test_functions_of_models_are_one_table(name: str, scale: float, zero: int, room: float) -> None:
    wanted = function(name, scale, zero, room)
    found = curves(wanted, zero)
    assert len(found) == 1
    assert read(found[0]).tolist() == list(wanted)
    assert found[0].results == wanted


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=256, max_size=256))
def test_any_function_is_a_sum_of_at_most_five(wanted: bytes) -> None:
    found = curves(wanted)
    assert len(found) <= 5
    assert total(found).tolist() == list(wanted)


@pytest.mark.parametrize("seed", range(6))
def test_functions_without_any_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    top = (1, 255)[seed % 2]
    wanted = bytes((random.integers(0, 256 if seed < 3 else 2, 256) * top % 256).tolist())
    found = curves(wanted)
    assert 1 < len(found) <= 5
    assert total(found).tolist() == list(wanted)


def test_results_are_not_near_a_half() -> None:
    """A core that adds up a little otherwise gives the same bytes."""
    for name in SHAPES:
        (curve,) = curves(function(name, 0.03, 100, 1.0), 100)
        table = np.frombuffer(curve.entries, "<u4")
        numbers = BYTES - curve.in_zero
        codes = np.array([tp._fp21_of(int(n)) for n in numbers])
        values = np.append(tp.fp21_value(table), 0.0)
        index, part = codes >> 11, (codes & 0x7FF) / 2048
        exact = values[index] + (values[index + 1] - values[index]) * part
        inside = (exact > -0.4) & (exact < 255.4)
        assert np.abs(np.abs(exact[inside] % 1) - 0.5).min() > 1 / 64


def test_bounds_of_another_size_are_refused() -> None:
    good = np.zeros(256)
    for bad in ((good[:-1], good, good, 0), (good, good, good, 256), (good, good, good, -1)):
        with pytest.raises(ValueError, match="bounds have another size"):
            _knots.fit(*bad)


def test_bounds_that_no_table_keeps() -> None:
    """Numbers 64 to 67 lie on one line; the answer is the number at which it begins."""
    wanted = np.zeros(256)
    wanted[65] = 9
    assert _knots.fit(wanted - 0.4, wanted + 0.4, wanted, 0) == 64
    assert _knots.fit(wanted[::-1] - 0.4, wanted[::-1] + 0.4, wanted, 255) == -64
