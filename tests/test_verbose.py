"""TEFLON_DEBUG=verbose: Mesa's tables, column for column."""

from __future__ import annotations

import numpy as np
import pytest

from teflon import debug
from teflon.ir.builder import Builder
from teflon.runtime import Model
from tests.fakes import chain


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    assert "verbose" in debug.FLAGS
    monkeypatch.setattr(debug, "enabled", lambda flag: flag == "verbose")
    monkeypatch.setattr(debug, "log", lambda text: lines.extend(text.split("\n")))
    return lines


def test_tables(log: list[str]) -> None:
    b = Builder("g")
    x = b.input("x", "i8", (1, 5, 5, 2), scale=0.5, zero_point=-1)
    weights = b.constant(np.ones((4, 2, 2, 2), np.int8), 0.25)
    y = b.conv2d(x, weights, dilation=(2, 1), activation="relu6", scale=0.125, zero_point=-128)
    b.output(b.logistic(y))
    with Model(b.build(), "cpu") as model:
        model(np.zeros((1, 5, 5, 2), np.int8))
    times = [line for line in log if "took" in line]
    assert [line.rpartition(" took ")[0] for line in times] == [
        "teflon: compiled graph,",
        "teflon: invoked graph,",
    ]
    assert [line for line in log if "took" not in line] == [
        "Teflon delegate: loaded cpu driver",
        "idx type            ver support     inputs",
        "=" * 96,
        "  0 CONV            v-  supported   in: 0(i8) 1(i8) out: 2(i8) ReLU6 dil: 1x2",
        "  1 LOG             v-  supported   in: 2(i8) out: 3(i8)",
        "",
        "teflon: compiling graph: 4 tensors 2 operations",
        "idx scale     zp has_data size        ",
        "=" * 39,
        "  0 0.500000 ffffffff no       1x5x5x2",
        "  1 0.250000   0 yes      4x2x2x2",
        "  2 0.125000 ffffff80 no       1x5x5x4",
        "  3 0.003906 ffffff80 no       1x5x5x4",
        "",
        "idx type            inputs               outputs             ",
        "=" * 74,
        "  0 CONV            0                    2                   ",
        "  1 LOG             2                    3                   ",
        "",
    ]


def test_operations_that_mesa_has_no_name_for(log: list[str]) -> None:
    with Model(chain("n"), "cpu"):
        assert "  0 unknown         v-  supported   in: 0(u8) out: 1(u8)" in log


def test_nothing_is_said_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    with Model(chain("n"), "cpu") as model:
        model(np.zeros(4, np.uint8))
    assert capsys.readouterr() == ("", "")
