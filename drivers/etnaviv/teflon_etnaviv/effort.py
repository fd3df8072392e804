"""What one instruction makes the chip do: multiply, read, write; and how long that takes.

Ref: docs/hardware/etnaviv.md section 3.1 (instruction), 4.5, 4.6 (tiles, superblocks)
Ref: docs/hardware/etnaviv.md section 4.8 (what the on-chip SRAM holds)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.rates import Model, Variant

_FULL, _PARTIAL = 1, 2  # caching modes
_CACHE_START = 0x800


@dataclass(frozen=True)
class Effort:
    """What an instruction costs. milliseconds: for each resource, one after the other."""

    milliseconds: Mapping[str, float]
    dram_read: int
    dram_written: int
    macs: int = 0
    array_cycles: int = 0
    peak: float = 0
    coefficient_bytes: int = 0
    sram_hits: int = 0

    @property
    def total_ms(self) -> float:
        return sum(self.milliseconds.values())


def of_nn(nn: NNInstruction, coded: int, model: Model) -> Effort:
    """Return the effort of a layer: bound by the MADs, or by the memory that coefficients, input
    and output go through. coded: bytes of its coefficients.
    """
    rates, variant = model.rates, model.variant
    planes = 1 if nn.depthwise else nn.kernel_z_size
    weights = nn.kernel_xy_size * nn.kernel_y_size * planes * nn.out_image_z_size
    macs = nn.out_image_x_size * nn.out_image_y_size * weights
    per_cycle = model.chip.nn_core_count * model.chip.nn_mad_per_core * rates.products
    coefficients = coded if variant.compressed else max(coded, weights)
    weight_reads = _coefficient_bytes(nn, coefficients)
    image, image_reads = _image_bytes(nn, model.chip, variant)
    written = nn.out_image_x_stride * nn.out_image_y_stride * nn.out_image_z_size
    again = _tiles(nn) * coefficients - weight_reads
    read = weight_reads + image_reads
    return Effort(
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


def of_tp(tp: TPInstruction, model: Model) -> Effort:
    """Return the effort of a job of the TP cores, taken as bound by memory: nothing about its speed
    is published.
    """
    read = tp.in_image_x_size * tp.in_image_y_size * tp.in_image_z_size
    columns = tp.in_window_x_end - tp.in_window_x_start + 1
    written = columns * (tp.in_window_y_end - tp.in_window_y_start + 1) * tp.in_image_z_size
    return Effort(
        milliseconds={"memory": (read + written) / model.rates.memory},
        dram_read=read,
        dram_written=written,
    )


def _tiles(nn: NNInstruction) -> int:
    across = -(-nn.out_image_x_size // nn.out_image_tile_x_size)
    return across * -(-nn.out_image_y_size // nn.out_image_tile_y_size)


def _coefficient_bytes(nn: NNInstruction, coefficients: int) -> int:
    """Return bytes of coefficients read: every tile needs all, what SRAM holds is read once."""
    held = 0
    if nn.kernel_caching_mode == _FULL:
        held = coefficients
    elif nn.kernel_caching_mode == _PARTIAL:
        held = min(coefficients, max(nn.kernel_cache_end_address - _CACHE_START, 0))
    return held + (coefficients - held) * _tiles(nn)


def _image_bytes(nn: NNInstruction, chip: Chip, variant: Variant) -> tuple[int, int]:
    """Return bytes of the input that all superblocks need together, and those read from DRAM.

    Tiles overlap by the kernel's size less one. A depthwise kernel needs its own plane only.
    """
    across = -(-nn.out_image_x_size // nn.out_image_tile_x_size)
    down = -(-nn.out_image_y_size // nn.out_image_tile_y_size)
    columns = nn.out_image_x_size + across * (nn.kernel_xy_size - 1)
    rows = nn.out_image_y_size + down * (nn.kernel_y_size - 1)
    once = columns * rows * nn.kernel_z_size
    per_core = -(-nn.out_image_z_size // min(nn.out_image_z_size, chip.nn_core_count))
    superblocks = 1 if nn.depthwise else -(-per_core // max(nn.kernels_per_core, 1))
    cached = nn.image_caching_mode == _FULL and variant.image_cache
    return once * superblocks, once if cached else once * superblocks
