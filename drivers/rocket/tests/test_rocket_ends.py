"""Operations that are left to the host because they would take longer on the NPU."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.compile.planning import plan_model
from teflon.ir.builder import Builder
from teflon.ir.graph import Value
from teflon_rocket.chips import RK3588
from teflon_rocket.exact.lower import lower
from teflon_rocket.timing import costs, predicted
from tests.rocket.grid import DEVICE


def _convolved(b: Builder, x: Value) -> Value:
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (16, 3, 3, x.shape[3]), np.int8)
    return b.conv2d(x, weights, weight_scale=[1 / 64] * 16)


def _where(b: Builder) -> list[tuple[str, int]]:
    """Kind and device of each operation."""
    plan = plan_model(b.build(), DEVICE)
    return [(op.kind_name, place.device) for op, place in plan.placements.items()]


def test_a_small_table_at_the_end_stays_with_the_host() -> None:
    b = Builder("small")
    x = b.input("x", "i8", (1, 3, 3, 16), 1 / 64, 3)
    b.output(b.logistic(_convolved(b, x)))
    assert _where(b) == [("CONV_2D", 0), ("LOGISTIC", 1)]


def test_a_large_table_at_the_end_is_worth_it() -> None:
    b = Builder("large")
    x = b.input("x", "i8", (1, 66, 66, 16), 1 / 64, 3)
    b.output(b.logistic(_convolved(b, x)))
    assert _where(b) == [("CONV_2D", 0), ("LOGISTIC", 0)]


def test_in_the_middle_everything_stays() -> None:
    b = Builder("middle")
    x = b.input("x", "i8", (1, 5, 5, 16), 1 / 64, 3)
    b.output(_convolved(b, b.logistic(_convolved(b, x))))
    assert _where(b) == [("CONV_2D", 0), ("LOGISTIC", 0), ("CONV_2D", 0)]


def test_of_a_model_with_convolutions_a_part_without_them_stays_with_the_host() -> None:
    b = Builder("parts")
    x = b.input("x", "i8", (1, 66, 66, 16), 1 / 64, 3)
    y = b.softmax(_convolved(b, x))  # the host's
    b.output(b.tanh(b.hard_swish(y)))
    assert _where(b) == [("CONV_2D", 0), ("SOFTMAX", 1), ("HARD_SWISH+TANH", 1)]


def test_a_model_without_convolutions_runs_on_the_npu() -> None:
    b = Builder("alone")
    b.output(b.tanh(b.input("x", "i8", (1, 3, 3, 16), 1 / 64, 3)))
    assert _where(b) == [("TANH", 0)]


def test_what_is_predicted_is_what_the_program_costs() -> None:
    b = Builder("costs")
    x = b.input("x", "i8", (1, 9, 11, 20), 1 / 64, 3)
    y = b.input("y", "i8", (1, 9, 11, 16), 1 / 64, 3)
    b.output(b.add(b.logistic(_convolved(b, x)), y))
    graph = b.build()
    each = predicted(graph, lower(graph, RK3588).operations, RK3588)
    whole = costs(DEVICE.compile(graph))
    assert sum(cost.total_ms for cost in each) == pytest.approx(sum(c.total_ms for c in whole))
