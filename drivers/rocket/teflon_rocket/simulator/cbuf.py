# Ref: docs/hardware/rocket.md §6.1, §6.3 (DATA_ENTRIES), §8.9
# Ref: docs/hardware/rocket_vendor.md §1 "few input channels", "ARGB CBUF rule"
"""The convolution buffer: banks, entries per row, what must fit."""

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA

from .cube import ATOM, Features, Weights, Window
from .features import whole_pixels
from .policy import Breach, Findings
from .registerfile import RegisterFile


def check_buffer(
    registers: RegisterFile,
    chip: Chip,
    findings: Findings,
    weights: Weights,
    features: Features,
    window: Window,
) -> None:
    """Raise SimulatorFault, or note a breach, when features or weights do not fit."""
    con0 = registers[CNA.CBUF_CON0]
    if chip.cbuf_banks < con0.DATA_BANK + con0.WEIGHT_BANK or 0 in (
        con0.DATA_BANK,
        con0.WEIGHT_BANK,
    ):
        raise SimulatorFault(
            f"CNA.CBUF_CON0: DATA_BANK {con0.DATA_BANK} and WEIGHT_BANK {con0.WEIGHT_BANK}, must"
            f" not be 0 and make at most {chip.cbuf_banks}"
        )
    if con0.WEIGHT_REUSE and weights.size > con0.WEIGHT_BANK * chip.cbuf_bank_bytes:
        findings.breach(
            Breach.WEIGHT_FIT,
            f"CNA.CBUF_CON0: WEIGHT_REUSE of {weights.size} bytes, must fit {con0.WEIGHT_BANK}"
            f" banks of {chip.cbuf_bank_bytes}",
        )
    if window.repeated:
        return  # the vendor declares no entries for one pixel
    if features.interleaved:
        _check_pixels(registers, chip, findings, features)
    else:
        _check_entries(registers, chip, findings, features)


def _check_pixels(
    registers: RegisterFile, chip: Chip, findings: Findings, features: Features
) -> None:
    """With a few interleaved channels DATA_ENTRIES counts the 16-byte pixels of all rows."""
    declared, banks = registers[CNA.CBUF_CON1].DATA_ENTRIES, registers[CNA.CBUF_CON0].DATA_BANK
    width = registers[CNA.DATA_SIZE0].DATAIN_WIDTH
    used, room = whole_pixels(width) * features.rows, banks * chip.cbuf_bank_bytes // ATOM
    if declared < used:
        findings.breach(
            Breach.INTERLEAVED_ROWS,
            f"CNA.CBUF_CON1: DATA_ENTRIES is {declared}, must be at least {used}:"
            f" {features.rows} rows of {whole_pixels(width)} pixels",
        )
    if used > room:
        findings.breach(
            Breach.BUFFER_FIT,
            f"CNA.CBUF_CON0: {features.rows} rows of {whole_pixels(width)} pixels are {used}, must"
            f" fit the {room} of DATA_BANK {banks}",
        )


def _check_entries(
    registers: RegisterFile, chip: Chip, findings: Findings, features: Features
) -> None:
    width = registers[CNA.DATA_SIZE0].DATAIN_WIDTH
    entries, banks = registers[CNA.CBUF_CON1].DATA_ENTRIES, registers[CNA.CBUF_CON0].DATA_BANK
    full, part = divmod(features.channels // ATOM, chip.cbuf_entry_bytes // ATOM)
    rule = full * width + (width if part == 3 else -(-part * width // 4))
    if entries < rule:
        findings.breach(
            Breach.DATA_ENTRIES,
            f"CNA.CBUF_CON1: DATA_ENTRIES is {entries}, must be at least {rule} (width {width},"
            f" {features.channels // ATOM} atoms)",
        )
    used, room = entries * features.rows, banks * chip.bank_entries
    if used > room:
        findings.breach(
            Breach.BUFFER_FIT,
            f"CNA.CBUF_CON0: {features.rows} rows of {entries} entries are {used}, must fit the"
            f" {room} of DATA_BANK {banks}",
        )
    if width == 1 and used >= room - chip.bank_entries * 3 // 100:
        findings.breach(
            Breach.WIDTH_ONE,
            f"CNA.CBUF_CON0: width 1 and {used} of {room} entries used, must leave 3 % of the last"
            " bank free",
        )
