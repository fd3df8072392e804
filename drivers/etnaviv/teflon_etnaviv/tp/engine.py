"""The TP cores as an engine: its instruction's addresses, and what a job costs.

Ref: docs/hardware/etnaviv.md section 3.2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from teflon.pipe import Cost, Data
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.engine import Address, Engine
from teflon_etnaviv.program import TP_CODE, Launch

if TYPE_CHECKING:  # for estimates only
    from teflon_etnaviv.rates import Model


class TPCores(Engine):
    """Move bytes, and look them up in tables."""

    instruction = TPInstruction
    code_role = TP_CODE
    constants_role = "lut"
    input = Address.of(TPInstruction, "in_image_base_address")
    output = Address.of(TPInstruction, "out_image_base_address")
    constants = Address.of(TPInstruction, "alu_load_pwl_lut_address")

    def cost(self, code: Data, launch: Launch, model: Model) -> Cost:
        """Taken as bound by memory: nothing about the speed of a job is published."""
        tp = TPInstruction.from_bytes(code)
        read = tp.in_image_x_size * tp.in_image_y_size * tp.in_image_z_size
        columns = tp.in_window_x_end - tp.in_window_x_start + 1
        written = columns * (tp.in_window_y_end - tp.in_window_y_start + 1) * tp.in_image_z_size
        return Cost(
            name=launch.name,
            engine="tp",
            milliseconds={"memory": (read + written) / model.rates.memory},
            dram_read=read,
            dram_written=written,
        )


TP_CORES = TPCores()
