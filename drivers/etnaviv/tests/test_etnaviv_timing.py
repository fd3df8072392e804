"""The model of time for etnaviv programs: it counts what the program does, and is monotone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import ProgramError
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.pipe import Cost
from teflon_etnaviv import timing
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import EtnavivProgram

CHIPS = ("a311d", "s905d3", "imx8mp")
NO_CACHE = timing.Variant(image_cache=False)
PLAIN = timing.Variant(compressed=False)


def graph(
    size: int, channels: int, kernels: int, taps: int = 1, *, depthwise: bool = False, seed: int = 0
) -> Graph:
    """Return one convolution; its weights are noise, or all zero where `seed` is negative."""
    b = Builder("made")
    x = b.input("x", "u8", (1, size, size, channels), scale=0.1, zero_point=128)
    shape = (1, taps, taps, channels) if depthwise else (kernels, taps, taps, channels)
    noise = np.random.default_rng(max(seed, 0)).integers(0, 256, shape, np.uint8)
    data = np.full(shape, 128, np.uint8) if seed < 0 else noise
    weights = b.constant(data, scale=0.01, zero_point=128)
    bias = np.zeros(channels if depthwise else kernels, np.int32)
    convolve = b.depthwise_conv2d if depthwise else b.conv2d
    b.output(convolve(x, weights, bias, scale=0.1, zero_point=128))
    return b.build()


def program(chip: str, made: Graph) -> EtnavivProgram:
    return EtnavivDevice(chip).compile(made)


def layer(found: list[Cost]) -> Cost:
    (one,) = [cost for cost in found if cost.engine == "nn"]
    return one


def instruction(made: EtnavivProgram) -> NNInstruction:
    (data,) = [b.data for b in made.buffers if b.role == "nn_config" and b.data]
    return NNInstruction.from_bytes(data)


@pytest.mark.parametrize("chip", CHIPS)
def test_one_layer_by_hand(chip: str) -> None:
    made = program(chip, graph(16, 8, 16))
    found = timing.costs(made)
    one = layer(found)
    coded = made.statistics["coefficient_bytes"]
    per_cycle = {"a311d": 3072, "s905d3": 768, "imx8mp": 1152}[chip]
    assert [c.engine for c in (found[0], found[-1])] == ["host", "host"]
    assert one.macs == 16 * 16 * 8 * 16
    assert one.array_cycles == -(-one.macs // per_cycle)
    assert one.dram_written == 16 * 16 * 16
    tiles = 1 if instruction(made).kernel_caching_mode else -(-16 // 4)
    assert one.coefficient_bytes == coded * tiles
    assert one.dram_read == one.coefficient_bytes + 16 * 16 * 8
    moved = one.dram_read + one.dram_written
    assert one.milliseconds["memory"] == pytest.approx(moved / timing.RATES[chip].memory)


def test_transposes_are_steps_of_the_movers() -> None:
    movers = [c for c in timing.costs(program("a311d", graph(16, 8, 16))) if c.engine == "tp"]
    assert movers
    assert all(c.dram_read > 0 and c.dram_written > 0 and not c.macs for c in movers)


def test_caching_saves_what_it_is_said_to_save() -> None:
    made = program("a311d", graph(28, 64, 512, 3))
    assert instruction(made).image_caching_mode == 1
    cached, fetched = (layer(timing.costs(made, variant=v)) for v in (timing.TODAY, NO_CACHE))
    assert cached.dram_read < fetched.dram_read
    saved = fetched.dram_read - cached.dram_read
    assert cached.sram_hits - fetched.sram_hits == saved
    assert cached.total_ms < fetched.total_ms
    assert cached.macs == fetched.macs


def test_compression_saves_memory_alone() -> None:
    made = program("a311d", graph(14, 64, 64, 3, seed=-1))
    coded, plain = (layer(timing.costs(made, variant=v)) for v in (timing.TODAY, PLAIN))
    assert plain.coefficient_bytes == 9 * 64 * 64
    assert coded.coefficient_bytes < plain.coefficient_bytes / 4
    assert coded.milliseconds["array"] == plain.milliseconds["array"]
    assert coded.total_ms < plain.total_ms


def test_depthwise_is_a_full_convolution_on_one_family_only() -> None:
    deep = graph(14, 64, 0, 3, depthwise=True)
    a311d, imx8mp = (layer(timing.costs(program(c, deep))) for c in ("a311d", "imx8mp"))
    assert imx8mp.macs == 14 * 14 * 9 * 64
    assert a311d.macs == 64 * imx8mp.macs


@given(st.sampled_from(CHIPS), st.integers(4, 24), st.integers(1, 6), st.integers(1, 6))
def test_more_work_never_takes_less_time(chip: str, size: int, deep: int, wide: int) -> None:
    def ms(*arguments: int) -> float:
        made = program(chip, graph(*arguments, seed=-1))
        return sum(c.milliseconds.get("array", 0.0) for c in timing.costs(made))

    base = ms(size, 8 * deep, 8 * wide)
    assert base <= ms(size + 1, 8 * deep, 8 * wide)
    assert base <= ms(size, 8 * deep + 8, 8 * wide)
    assert base <= ms(size, 8 * deep, 8 * wide + 8)
    assert base <= ms(size, 8 * deep, 8 * wide, 3)


@pytest.mark.parametrize("chip", CHIPS)
def test_faster_parts_never_make_it_slower(chip: str) -> None:
    made, rates = program(chip, graph(20, 16, 32, 3)), timing.RATES[chip]
    base = sum(c.total_ms for c in timing.costs(made))
    for name in ("cycles", "memory", "host"):
        fast = replace(rates, **{name: 2 * getattr(rates, name)})
        assert sum(c.total_ms for c in timing.costs(made, fast)) < base


@given(st.sampled_from(CHIPS), st.integers(4, 40), st.integers(1, 64), st.integers(1, 64))
def test_nothing_is_negative(chip: str, size: int, channels: int, kernels: int) -> None:
    for cost in timing.costs(program(chip, graph(size, channels, kernels))):
        counts = (cost.macs, cost.dram_read, cost.dram_written, cost.sram_hits)
        assert min(counts) >= 0
        assert cost.coefficient_bytes <= cost.dram_read
        assert 0 <= cost.utilisation <= 1
        assert all(ms >= 0 for ms in cost.milliseconds.values())


def test_programs_of_others_are_refused() -> None:
    class Other:
        driver = "other"

    with pytest.raises(ProgramError, match="etnaviv: cannot estimate a program of driver other"):
        EtnavivDevice("a311d").estimate(Other())  # type: ignore[arg-type]
