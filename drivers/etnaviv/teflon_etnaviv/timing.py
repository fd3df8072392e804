"""A model of time for etnaviv programs, read off the instructions that the chip is given.

Ref: docs/hardware/etnaviv.md section 1.1 (MACs per cycle: cores, MADs, dot products)
Ref: docs/hardware/etnaviv.md sections 3.1, 3.2 (instructions), 4.5, 4.6 (tiles, superblocks)
Ref: docs/hardware/etnaviv.md section 4.8 (what the on-chip SRAM holds)
Ref: Linux, arch/arm64/boot/dts/freescale/imx8mp.dtsi: ML core clock 1 GHz (800 MHz in nominal mode)
Ref: docs/hardware/etnaviv.md section 1.1: 800 MHz is the vendor's figure for A311D
Ref: docs/estimate.md says how the fitted constants were found (tools/fit_estimate.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from teflon.pipe import HOST, Cost
from teflon_etnaviv.chips import Chip, chip
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.program import EtnavivProgram, Port

_FULL, _PARTIAL = 1, 2  # caching modes
_CACHE_START = 0x800


@dataclass(frozen=True)
class Rates:
    """What a chip does in a millisecond. Starting an instruction is taken as free: fitted with the
    rest it comes out as 4 us (A311D), and hardly moves a prediction.
    """

    cycles: float
    """Of the NN cores. Published."""
    products: int
    """Multiply-accumulates of one MAD and cycle. Published."""
    memory: float
    """Bytes moved from or to DRAM. Fitted."""
    host: float
    """Bytes that one CPU core copies. Assumed."""


RATES: Mapping[str, Rates] = MappingProxyType(
    {
        "a311d": Rates(cycles=800e3, products=6, memory=4.95e6, host=1e6),
        # as A311D, nothing is published: not calibrated
        "s905d3": Rates(cycles=800e3, products=6, memory=4.95e6, host=1e6),
        "imx8mp": Rates(cycles=1000e3, products=3, memory=3.9e6, host=1e6),
    }
)


@dataclass(frozen=True)
class Variant:
    """What the driver of some date made use of; the default is what a program says."""

    compressed: bool = True
    """Coefficients are coded; without, every weight takes a byte."""
    image_cache: bool = True
    """Tiles of the input stay in SRAM while all superblocks use them."""


TODAY = Variant()


def costs(
    program: EtnavivProgram, rates: Rates | None = None, variant: Variant = TODAY
) -> list[Cost]:
    """Return one cost for each instruction, between those of the host's copies."""
    rates = rates or RATES[program.chip]
    steps = [_copy(port, rates, "in") for port in program.input_ports]
    steps += _instructions(program, chip(program.chip), rates, variant)
    return steps + [_copy(port, rates, "out") for port in program.output_ports]


def _instructions(
    program: EtnavivProgram, about: Chip, rates: Rates, variant: Variant
) -> Iterator[Cost]:
    for launch in program.instructions:
        buffer = program.buffers[launch.buffer]
        code = memoryview(buffer.data or b"")[launch.offset :]
        if buffer.role == "nn_config":
            nn = NNInstruction.from_bytes(code)
            yield _nn(nn, launch.coded, launch.name, about, rates, variant)
        else:
            yield _tp(TPInstruction.from_bytes(code), launch.name, rates)


# NN -------------------------------------------------------------------------------------------


def _nn(
    nn: NNInstruction, coded: int, name: str, about: Chip, rates: Rates, variant: Variant
) -> Cost:
    planes = 1 if nn.depthwise else nn.kernel_z_size
    weights = nn.kernel_xy_size * nn.kernel_y_size * planes * nn.out_image_z_size
    macs = nn.out_image_x_size * nn.out_image_y_size * weights
    per_cycle = about.nn_core_count * about.nn_mad_per_core * rates.products
    coefficients = coded if variant.compressed else max(coded, weights)
    weight_reads = _coefficient_bytes(nn, coefficients)
    image, image_reads = _image_bytes(nn, about, variant)
    written = nn.out_image_x_stride * nn.out_image_y_stride * nn.out_image_z_size
    again = _tiles(nn) * coefficients - weight_reads
    read = weight_reads + image_reads
    return Cost(
        name=name,
        engine="nn",
        milliseconds={
            "array": macs / per_cycle / rates.cycles,
            "memory": (read + written) / rates.memory,
        },
        macs=macs,
        array_cycles=-(-macs // per_cycle),
        peak=per_cycle * rates.cycles,
        dram_read=read,
        dram_written=written,
        coefficient_bytes=weight_reads,
        sram_hits=again + image - image_reads,
    )


def _tiles(nn: NNInstruction) -> int:
    across = -(-nn.out_image_x_size // nn.out_image_tile_x_size)
    return across * -(-nn.out_image_y_size // nn.out_image_tile_y_size)


def _coefficient_bytes(nn: NNInstruction, coefficients: int) -> int:
    """Bytes of coefficients read: every tile needs all, what SRAM holds is read once."""
    held = 0
    if nn.kernel_caching_mode == _FULL:
        held = coefficients
    elif nn.kernel_caching_mode == _PARTIAL:
        held = min(coefficients, max(nn.kernel_cache_end_address - _CACHE_START, 0))
    return held + (coefficients - held) * _tiles(nn)


def _image_bytes(nn: NNInstruction, about: Chip, variant: Variant) -> tuple[int, int]:
    """Bytes of the input that all superblocks need together, and those read from DRAM.

    Tiles overlap by the kernel's size less one. A depthwise kernel needs its own plane only.
    """
    across = -(-nn.out_image_x_size // nn.out_image_tile_x_size)
    down = -(-nn.out_image_y_size // nn.out_image_tile_y_size)
    columns = nn.out_image_x_size + across * (nn.kernel_xy_size - 1)
    rows = nn.out_image_y_size + down * (nn.kernel_y_size - 1)
    once = columns * rows * nn.kernel_z_size
    per_core = -(-nn.out_image_z_size // min(nn.out_image_z_size, about.nn_core_count))
    superblocks = 1 if nn.depthwise else -(-per_core // max(nn.kernels_per_core, 1))
    cached = nn.image_caching_mode == _FULL and variant.image_cache
    return once * superblocks, once if cached else once * superblocks


# TP and host ----------------------------------------------------------------------------------


def _tp(tp: TPInstruction, name: str, rates: Rates) -> Cost:
    """A mover of data: taken as bound by memory, as nothing about its speed is published."""
    read = tp.in_image_x_size * tp.in_image_y_size * tp.in_image_z_size
    columns = tp.in_window_x_end - tp.in_window_x_start + 1
    written = columns * (tp.in_window_y_end - tp.in_window_y_start + 1) * tp.in_image_z_size
    return Cost(
        name=name,
        engine="tp",
        milliseconds={"memory": (read + written) / rates.memory},
        dram_read=read,
        dram_written=written,
    )


def _copy(port: Port, rates: Rates, which: str) -> Cost:
    size = port.type.size_bytes
    return Cost(
        name=f"copy {which}put",
        engine=HOST,
        milliseconds={HOST: size / rates.host},
        dram_read=size,
        dram_written=size,
    )
