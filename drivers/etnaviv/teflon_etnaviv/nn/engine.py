"""The NN cores as an engine: its instruction's addresses, and what a layer costs.

Ref: docs/hardware/etnaviv.md section 3.1 (instruction), 4.5, 4.6 (tiles, superblocks)
Ref: docs/hardware/etnaviv.md section 4.8 (what the on-chip SRAM holds)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from teflon.errors import ProgramError
from teflon.pipe import Cost, Data
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.engine import Address, Engine
from teflon_etnaviv.program import NN_CODE, Launch

_FULL, _PARTIAL = 1, 2  # caching modes
_CACHE_START = 0x800

if TYPE_CHECKING:  # for estimates only
    from teflon_etnaviv.rates import Model, Variant


class NNCores(Engine):
    """Convolve and add; fed with coefficients."""

    instruction = NNInstruction
    code_role = NN_CODE
    constants_role = "coefficients"
    input = Address.of(NNInstruction, "in_image_address")
    output = Address.of(NNInstruction, "out_image_address")
    constants = Address.of(NNInstruction, "kernel_address")

    def cost(self, code: Data, launch: Launch, model: Model) -> Cost:
        """Bound by the MADs, or by the memory that coefficients, input and output go through.

        Raises ProgramError for an instruction that computes nothing.
        """
        nn, rates, variant = NNInstruction.from_bytes(code), model.rates, model.variant
        if not (nn.out_image_tile_x_size and nn.out_image_tile_y_size and nn.out_image_z_size):
            raise ProgramError(
                f"etnaviv: {launch.name!r} has tiles or outputs of no size, must have some"
                " (compile the model again)"
            )
        planes = 1 if nn.depthwise else nn.kernel_z_size
        weights = nn.kernel_xy_size * nn.kernel_y_size * planes * nn.out_image_z_size
        macs = nn.out_image_x_size * nn.out_image_y_size * weights
        per_cycle = model.chip.nn_core_count * model.chip.nn_mad_per_core * rates.products
        coefficients = launch.coded if variant.compressed else max(launch.coded, weights)
        weight_reads = _coefficient_bytes(nn, coefficients)
        image, image_reads = _image_bytes(nn, model.chip, variant)
        written = nn.out_image_x_stride * nn.out_image_y_stride * nn.out_image_z_size
        again = _tiles(nn) * coefficients - weight_reads
        read = weight_reads + image_reads
        return Cost(
            name=launch.name,
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


NN_CORES = NNCores()


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
