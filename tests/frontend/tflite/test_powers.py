"""ADD and SUB of int16: TFLite only shifts where an option asks for it and scales allow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir.interpreter import run
from tests.frontend.tflite.helpers import code, opaques, operator, quantization, relu, tensor
from tests.oracle import Oracle, needs_oracle

pytestmark = needs_oracle

SIZE = 4000
VERSIONS = {"ADD": 3, "SUB": 2}

# Scales of the operands and the result -> whether the larger of the operands is the result's.
SHIFTED = {
    (2.0**-12, 2.0**-14, 2.0**-12): True,
    (2.0**-15, 2.0**-11, 2.0**-11): True,
    (2.0**-9, 2.0**-9, 2.0**-9): True,
    (2.0**-13 * 1.0004, 2.0**-13, 2.0**-13): True,  # TFLite rounds exponents
    (2.0**-12, 2.0**-14, 2.0**-11): False,
    (2.0**-12, 2.0**-14, 2.0**-13): False,
}
OTHERS = [(0.003, 2.0**-9, 2.0**-8), (0.1, 0.2, 0.3)]


def file(name: str, scales: tuple[float, float, float], **options: Any) -> bytes:
    kinds = [
        tensor(n, (1, SIZE), "INT16", quantization=quantization((s,)))
        for n, s in zip("xzy", scales, strict=True)
    ]
    x, z, y = kinds
    return relu(
        tensors=[x, y, z],
        inputs=[0, 2],
        operators=[
            operator([0, 2], [1], builtin_options=table(f"{name.title()}Options", **options))
        ],
        codes=[code(name, VERSIONS[name])],
    )


def agrees(data: bytes) -> bool:
    """Compare with TFLite; return whether operands are shifted."""
    rng = np.random.default_rng(5)
    inputs = [rng.integers(-32768, 32768, (1, SIZE)).astype(np.int16) for _ in range(2)]
    graph = read(data)
    assert opaques(graph) == []
    (have,), (want,) = run(graph, inputs), Oracle(data).run(inputs)
    np.testing.assert_array_equal(have, want)
    again = run(read(write(graph)), inputs)
    np.testing.assert_array_equal(again[0], want)
    return bool(graph.ops[0].shifted)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("scales", [s for s, fits in SHIFTED.items() if fits])
def test_powers_of_two_are_shifted(
    name: str, activation: int, scales: tuple[float, float, float]
) -> None:
    options = {"fused_activation_function": activation}
    assert agrees(file(name, scales, **options))
    assert not agrees(file(name, scales, pot_scale_int16=False, **options))


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("scales", OTHERS)
def test_other_scales_are_general_whatever_the_option_says(
    name: str, scales: tuple[float, float, float]
) -> None:
    assert not agrees(file(name, scales))


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("scales", [s for s, fits in SHIFTED.items() if not fits])
def test_powers_of_two_that_tflite_refuses_have_a_reason(
    name: str, scales: tuple[float, float, float]
) -> None:
    data = file(name, scales)
    assert opaques(read(data)) == [
        (f"{name} 'y'", "int16 scales are powers of two, the operands' larger one must be the"
                        " output's"),
    ]  # fmt: skip
    with pytest.raises(RuntimeError):
        Oracle(data)
    assert not agrees(file(name, scales, pot_scale_int16=False))
