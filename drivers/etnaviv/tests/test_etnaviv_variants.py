"""Formats that nobody has confirmed on silicon: off by default, right on the simulator where on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from teflon.devices import open_device
from teflon.errors import OptionError, SimulatorFault
from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import EtnavivProgram

HUFFMAN = {"s905d3-huffman": "on"}
CACHING = {"v8-image-caching": "on"}


def graph(kind: str, channels: int = 16, size: int = 12, outputs: int = 40) -> Graph:
    """One convolution, plain or depthwise."""
    rng = np.random.default_rng(7)
    b = Builder(kind)
    x = b.input("x", "u8", (1, size, size, channels), scale=0.02, zero_point=120)
    shape = (1 if kind == "depthwise" else outputs, 3, 3, channels)
    weights = rng.integers(0, 256, shape).astype(np.uint8)
    add: Any = b.depthwise_conv2d if kind == "depthwise" else b.conv2d
    y = add(x, weights, None, weight_scale=0.01, weight_zero_point=121, scale=0.5, zero_point=110)
    b.output(y)
    return b.build()


def program_of(chip: str, options: dict[str, str], model: Graph) -> EtnavivProgram:
    return EtnavivDevice(chip, options).compile(model)


def instruction(program: EtnavivProgram) -> NNInstruction:
    found = next(b.data for b in program.buffers if b.role == "nn_config")
    assert found is not None
    return NNInstruction.from_bytes(found)


def coefficients(program: EtnavivProgram) -> bytes:
    found = next(b.data for b in program.buffers if b.role == "coefficients")
    assert found is not None
    return bytes(found)


def check_on_simulator(chip: str, options: dict[str, str], model: Graph) -> None:
    """Within one step of the interpreter."""
    _, context = open_device(f"sim:{chip}", options)
    assert context is not None
    rng = np.random.default_rng(1)
    inputs = [rng.integers(0, 256, v.shape).astype(np.uint8) for v in model.inputs]
    with context:
        loaded = context.load(context.device.compile(model))
        (found,) = context.invoke(loaded, inputs)
    (wanted,) = interpreter.run(model, inputs)
    assert len(np.unique(wanted)) > 20
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
def test_s905d3_with_huffman_codes(kind: str) -> None:
    model = graph(kind)
    check_on_simulator("s905d3", HUFFMAN, model)
    program = program_of("s905d3", HUFFMAN, model)
    assert coefficients(program)[:20].hex() == "100400010001" + 14 * "00"
    assert not instruction(program).depthwise


def test_variants_are_off_by_default() -> None:
    model = graph("conv")
    plain = program_of("s905d3", {}, model)
    assert plain.to_bytes() == program_of("s905d3", {"s905d3-huffman": "off"}, model).to_bytes()
    assert coefficients(plain)[:2].hex() != "1004"
    assert instruction(program_of("imx8mp", {}, model)).image_caching_mode == 0


def test_the_simulator_tells_the_variants_apart() -> None:
    """A program of one variant on the other's silicon is a fault, never a result."""
    model = graph("conv")
    inputs = [np.zeros(v.shape, np.uint8) for v in model.inputs]
    for compiled, run in ((HUFFMAN, {}), ({}, HUFFMAN)):
        _, context = open_device("sim:s905d3", run)
        assert context is not None
        loaded = context.load(program_of("s905d3", compiled, model))
        with pytest.raises(SimulatorFault, match=r"no_z_offset|must be 0 before V8"):
            context.invoke(loaded, inputs)
        context.close()


def test_image_caching_on_v8() -> None:
    model = graph("conv", channels=64, size=20, outputs=128)  # several superblocks
    check_on_simulator("imx8mp", CACHING, model)
    cached = instruction(program_of("imx8mp", CACHING, model))
    plain = instruction(program_of("imx8mp", {}, model))
    assert (cached.image_caching_mode, plain.image_caching_mode) == (1, 0)
    assert cached.image_cache_start_address >= cached.kernel_cache_end_address


def test_variants_have_places_of_their_own_in_the_cache() -> None:
    plain, other = (EtnavivDevice("s905d3", o).signature() for o in ({}, HUFFMAN))
    assert plain != other


@pytest.mark.parametrize(
    ("chip", "options", "message"),
    [
        ("a311d", HUFFMAN, "option s905d3-huffman: chip is a311d, must be s905d3"),
        ("a311d", CACHING, "option v8-image-caching: chip is a311d, must be one with V8 coef"),
        ("s905d3", {**HUFFMAN, "strategy": "mesa"}, "strategy is mesa, must be exact"),
        ("s905d3", {"s905d3-huffman": "yes"}, "is 'yes', must be one of off, on"),
    ],
)
def test_variants_that_cannot_be(chip: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        open_device(chip, options)
