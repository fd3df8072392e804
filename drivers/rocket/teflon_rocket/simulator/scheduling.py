# Ref: docs/hardware/rocket_registers.json (CONV_CON2), docs/hardware/rocket_vendor.md §0.15
"""What tells the CNA how to share work out: it changes no result, but must be true."""

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA

from .registerfile import Fields, RegisterFile

FIELDS: Fields = {CNA.CONV_CON2: "FEATURE_GRAINS KERNEL_GROUP CORES"}


def check(registers: RegisterFile, chip: Chip) -> None:
    """Raise SimulatorFault for kernel groups or cores that there are not.

    Mesa always says one group. Each core of several runs a list with a part of its own.
    """
    con2 = registers[CNA.CONV_CON2]
    kernels = registers[CNA.WEIGHT_SIZE2].WEIGHT_KERNELS
    groups = -(-kernels // chip.kernel_group)
    if con2.KERNEL_GROUP not in (1, groups):
        raise SimulatorFault(
            f"CNA.CONV_CON2: KERNEL_GROUP is {con2.KERNEL_GROUP}, must be {groups} for"
            f" {kernels} kernels, or 1"
        )
    if chip.cores < con2.CORES:
        raise SimulatorFault(
            f"CNA.CONV_CON2: CORES is {con2.CORES}, must be at most {chip.cores}, as the chip has"
        )
