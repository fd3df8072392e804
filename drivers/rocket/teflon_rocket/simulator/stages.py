# Ref: docs/hardware/rocket.md §8.4, §8.6
# Ref: docs/hardware/rocket_vendor.md §0 (3, 6, 7, 10), §1 (LUT registers, activations), §2
"""The stages of the DPU, BS -> BN -> EW -> output converter, read from their registers."""

from dataclasses import dataclass

from teflon.errors import SimulatorFault
from teflon_common.registers import Register
from teflon_rocket.registers import DPU

from .registerfile import Fields, RegisterFile, signed

FIELDS: Fields = {
    DPU.BS_CFG: "BS_BYPASS BS_ALU_BYPASS BS_MUL_BYPASS BS_RELU_BYPASS BS_RELUX_EN BS_ALU_SRC"
    " BS_ALU_ALGO",
    DPU.BS_ALU_CFG: "BS_ALU_OPERAND",
    DPU.BS_MUL_CFG: "BS_MUL_SRC BS_MUL_SHIFT_VALUE BS_MUL_OPERAND",
    DPU.BS_RELUX_CMP_VALUE: "BS_RELUX_CMP_DAT",
    DPU.BN_CFG: "BN_BYPASS BN_ALU_BYPASS BN_MUL_BYPASS BN_MUL_PRELU BN_RELU_BYPASS BN_RELUX_EN"
    " BN_ALU_SRC BN_ALU_ALGO",
    DPU.BN_ALU_CFG: "BN_ALU_OPERAND",
    DPU.BN_MUL_CFG: "BN_MUL_SRC BN_MUL_SHIFT_VALUE BN_MUL_OPERAND",
    DPU.BN_RELUX_CMP_VALUE: "BN_RELUX_CMP_DAT",
    DPU.EW_CFG: "EW_BYPASS EW_OP_BYPASS EW_OP_TYPE EW_OP_SRC EW_LUT_BYPASS EW_OP_CVT_BYPASS"
    " EW_RELU_BYPASS EW_RELUX_EN EW_ALU_ALGO EDATA_SIZE EW_DATA_MODE EW_CVT_ROUND EW_CVT_TYPE",
    DPU.EW_CVT_OFFSET_VALUE: "EW_OP_CVT_OFFSET",
    DPU.EW_CVT_SCALE_VALUE: "EW_OP_CVT_SCALE EW_OP_CVT_SHIFT",
    DPU.EW_RELUX_CMP_VALUE: "EW_RELUX_CMP_DAT",
    DPU.OUT_CVT_OFFSET: "OUT_CVT_OFFSET",
    DPU.OUT_CVT_SCALE: "OUT_CVT_SCALE",
    DPU.OUT_CVT_SHIFT: "OUT_CVT_SHIFT CVT_ROUND CVT_TYPE",
    **{getattr(DPU, f"EW_OP_VALUE_{i}"): "" for i in range(8)},
    DPU.LUT_CFG: "LUT_LO_LE_MUX LUT_OFLOW_PRIORITY LUT_HYBRID_PRIORITY",
    DPU.LUT_INFO: "LUT_LE_INDEX_SELECT LUT_LO_INDEX_SELECT",
    DPU.LUT_LE_START: "LUT_LE_START",
    DPU.LUT_LE_END: "",
    DPU.LUT_LO_START: "",
    DPU.LUT_LO_END: "LUT_LO_END",
    DPU.LUT_LE_SLOPE_SCALE: "LUT_LE_SLOPE_UFLOW_SCALE",
    DPU.LUT_LE_SLOPE_SHIFT: "LUT_LE_SLOPE_UFLOW_SHIFT",
    DPU.LUT_LO_SLOPE_SCALE: "LUT_LO_SLOPE_OFLOW_SCALE",
    DPU.LUT_LO_SLOPE_SHIFT: "LUT_LO_SLOPE_OFLOW_SHIFT",
}

_ADD, _SUBTRACT = 2, 4
_MAX = 0
_EW_ALGORITHMS = {_MAX: "max", 1: "min", _ADD: "add", _SUBTRACT: "subtract"}
_EW_STAGE_ON = 1, 1
"""EDATA_SIZE (8 bits), EW_OP_SRC (from ERDMA) of a modelled operand."""
_MAX_SHIFT = 60
_LUT_ON: dict[type[Register], int] = {
    DPU.LUT_CFG: 0x68,
    DPU.LUT_INFO: 0x50500,
    DPU.LUT_LE_START: 0xFFFFC000,
    DPU.LUT_LE_END: 0,
    DPU.LUT_LO_START: 0,
    DPU.LUT_LO_END: 0x4000,
}
"""The only set-up of a table that is known: LE from -16384 to 0, LO from 0 to 16384, entries 32
apart, and LO where both could serve."""
_SLOPES: tuple[type[Register], ...] = (
    DPU.LUT_LE_SLOPE_SCALE,
    DPU.LUT_LE_SLOPE_SHIFT,
    DPU.LUT_LO_SLOPE_SCALE,
    DPU.LUT_LO_SLOPE_SHIFT,
)


@dataclass(frozen=True)
class Scale:
    """Multiply and shift right, rounded; `negative` is the shift of negative values."""

    multiplier: int
    shift: int
    negative: int | None = None
    """None: the same."""


@dataclass(frozen=True)
class Stage:
    """BS or BN: add, multiply and shift, clamp. None: bypassed; "stream": per channel.

    BS adds first, BN multiplies first and shifts after the addition. prelu: only negative values
    are multiplied. streamed: the multiplier is, `multiply` has the shifts.
    """

    add: int | str | None = None
    subtract: bool = False
    multiply: Scale | None = None
    streamed: bool = False
    low: int | None = None
    high: int | None = None
    prelu: bool = False
    multiply_first: bool = False


@dataclass(frozen=True)
class Elementwise:
    """EW: the converter of the int8 operand, how it is combined, and the clamp after that.

    per_channel: there is one operand for all pixels of a channel.
    """

    algorithm: str
    offset: int
    scale: Scale
    add_first: bool
    ties_up: bool
    low: int | None
    high: int | None
    per_channel: bool = False


@dataclass(frozen=True)
class Lut:
    """Look-up in the core's tables: slopes below and above their range; `floor`: never below 0."""

    below: Scale
    above: Scale
    floor: bool


@dataclass(frozen=True)
class Output:
    """Output converter."""

    scale: Scale
    offset: int
    add_first: bool
    ties_up: bool


def bs(registers: RegisterFile) -> Stage:
    """Return the first stage."""
    config, mul = registers[DPU.BS_CFG], registers[DPU.BS_MUL_CFG]
    if config.BS_BYPASS:
        return Stage()
    add: int | str | None = None
    if not config.BS_ALU_BYPASS:
        add = "stream" if config.BS_ALU_SRC else registers[DPU.BS_ALU_CFG].BS_ALU_OPERAND
    scale = None
    if not config.BS_MUL_BYPASS:
        operand = 1 if mul.BS_MUL_SRC else mul.BS_MUL_OPERAND
        negative = registers[DPU.DATA_FORMAT].BS_MUL_SHIFT_VALUE_NEG
        scale = _scale("DPU.BS", operand, mul.BS_MUL_SHIFT_VALUE, negative)
    low, high = _clamp(
        config.BS_RELU_BYPASS, config.BS_RELUX_EN, registers[DPU.BS_RELUX_CMP_VALUE].pack()
    )
    subtract = add is not None and _subtracts("DPU.BS", config.BS_ALU_ALGO)
    return Stage(add, subtract, scale, bool(scale and mul.BS_MUL_SRC), low, high)


def bn(registers: RegisterFile) -> Stage:
    """Return the second stage."""
    config, mul = registers[DPU.BN_CFG], registers[DPU.BN_MUL_CFG]
    if config.BN_BYPASS:
        return Stage(multiply_first=True)
    add: int | str | None = None
    if not config.BN_ALU_BYPASS:
        add = "stream" if config.BN_ALU_SRC else registers[DPU.BN_ALU_CFG].BN_ALU_OPERAND
    scale = None
    if not config.BN_MUL_BYPASS:
        scale = _bn_scale(registers, add is not None)
    low, high = _clamp(
        config.BN_RELU_BYPASS, config.BN_RELUX_EN, registers[DPU.BN_RELUX_CMP_VALUE].pack()
    )
    subtract = add is not None and _subtracts("DPU.BN", config.BN_ALU_ALGO)
    return Stage(
        add, subtract, scale, bool(scale and mul.BN_MUL_SRC), low, high,
        bool(scale and config.BN_MUL_PRELU), True,
    )  # fmt: skip


def _bn_scale(registers: RegisterFile, adds: bool) -> Scale:
    config, mul = registers[DPU.BN_CFG], registers[DPU.BN_MUL_CFG]
    shift, negative = mul.BN_MUL_SHIFT_VALUE, registers[DPU.DATA_FORMAT].BN_MUL_SHIFT_VALUE_NEG
    operand = 1 if mul.BN_MUL_SRC else mul.BN_MUL_OPERAND
    if config.BN_MUL_PRELU:
        if shift or adds:
            raise SimulatorFault(
                f"DPU.BN_CFG: BN_MUL_PRELU with BN_MUL_SHIFT_VALUE {shift} and BN_ALU_BYPASS"
                f" {config.BN_ALU_BYPASS}, must be 0 and 1 (others are not modelled)"
            )
        return Scale(operand, negative)  # positive values stay as they are
    if adds and shift != negative:
        raise SimulatorFault(
            f"DPU.BN_MUL_CFG: BN_MUL_SHIFT_VALUE is {shift} and DPU.DATA_FORMAT"
            f" BN_MUL_SHIFT_VALUE_NEG {negative} with an addition, must be equal (which of the two"
            " counts is not known)"
        )
    return _scale("DPU.BN", operand, shift, negative)


def _scale(name: str, operand: int, shift: int, negative: int) -> Scale:
    """Return a multiplier of 16 bits, signed."""
    if operand < 0 and shift != negative:
        raise SimulatorFault(
            f"{name}_MUL_OPERAND is {operand} with the shifts {shift} and {negative} in"
            f" {name}_MUL_CFG and DPU.DATA_FORMAT, must not be negative (which of the two counts is"
            " not known)"
        )
    for value in (shift, negative):
        _near(f"{name}_MUL_CFG and DPU.DATA_FORMAT", value)
    return Scale(operand, shift, negative if shift != negative else None)


def _subtracts(name: str, algorithm: int) -> bool:
    if algorithm not in (_ADD, _SUBTRACT):
        raise SimulatorFault(f"{name}_ALU_ALGO is {algorithm}, must be 2 (add) or 4 (subtract)")
    return algorithm == _SUBTRACT


def _clamp(bypassed: int, limited: int, limit: int) -> tuple[int | None, int | None]:
    """Return the lower and the upper limit of a ReLU; an upper limit without a ReLU is refused."""
    if bypassed:
        if limited:
            raise SimulatorFault("DPU: RELUX_EN with RELU_BYPASS is not modelled, must be 0")
        return None, None
    if not limited:
        return 0, None
    if limit >> 31:
        raise SimulatorFault(f"DPU: RELUX_CMP_DAT is #{limit:08x}, must not be negative")
    return 0, limit


def elementwise(registers: RegisterFile) -> Elementwise | None:
    """Return how EW combines values with its operand; None where it does not."""
    config = registers[DPU.EW_CFG]
    if not config.EW_LUT_BYPASS or config.EW_BYPASS:
        return None
    if config.EW_OP_BYPASS:
        raise SimulatorFault("DPU.EW_CFG: EW_OP_BYPASS without EW_BYPASS is not modelled")
    if (config.EDATA_SIZE, config.EW_OP_SRC) != _EW_STAGE_ON or config.EW_DATA_MODE > 1:
        raise SimulatorFault(
            f"{config}: only 8-bit operands per pixel or channel from memory are modelled, must be"
            " EDATA_SIZE=1 EW_OP_SRC=1 and EW_DATA_MODE 0 or 1"
        )
    low, high = _clamp(
        config.EW_RELU_BYPASS, config.EW_RELUX_EN, registers[DPU.EW_RELUX_CMP_VALUE].pack()
    )
    converter = registers[DPU.EW_CVT_SCALE_VALUE]
    scale = Scale(signed(converter.EW_OP_CVT_SCALE, 16), converter.EW_OP_CVT_SHIFT)
    _near("DPU.EW_CVT_SCALE_VALUE: EW_OP_CVT_SHIFT", scale.shift)
    offset = registers[DPU.EW_CVT_OFFSET_VALUE].EW_OP_CVT_OFFSET
    if config.EW_OP_CVT_BYPASS:
        scale, offset = Scale(1, 0), 0
    return Elementwise(
        _algorithm(config.EW_OP_TYPE, config.EW_ALU_ALGO),
        offset,
        scale,
        bool(config.EW_CVT_TYPE),
        bool(config.EW_CVT_ROUND),
        low,
        high,
        config.EW_DATA_MODE == 0,
    )


def _algorithm(multiplies: int, algorithm: int) -> str:
    if multiplies and algorithm == 0:
        return "multiply"
    if multiplies or algorithm not in _EW_ALGORITHMS:
        raise SimulatorFault(
            f"DPU.EW_CFG: EW_ALU_ALGO {algorithm} with EW_OP_TYPE {multiplies} is not modelled"
        )
    return _EW_ALGORITHMS[algorithm]


def lut(registers: RegisterFile) -> Lut | None:
    """Return how values are looked up in the core's tables; None where they are not.

    The maximum with 0 stands in lists whose slope below the table would lead to negative values,
    and in no others: it follows the look-up.
    """
    config = registers[DPU.EW_CFG]
    if config.EW_LUT_BYPASS:
        for register in (*_LUT_ON, *_SLOPES):
            if value := registers[register].pack():
                raise SimulatorFault(
                    f"{register.title()}: is #{value:x} with EW_LUT_BYPASS, must be 0"
                )
        return None
    plain = config.EW_RELU_BYPASS and config.EW_OP_CVT_BYPASS and not config.EW_BYPASS
    operation = config.EW_OP_TYPE, config.EW_OP_SRC, config.EW_ALU_ALGO
    if not plain or operation != (0, 0, _MAX):
        raise SimulatorFault(
            f"{config}: with a table must be #302 or, for the maximum with 0, #300 (others are not"
            " modelled)"
        )
    for register, must in _LUT_ON.items():
        if (value := registers[register].pack()) != must:
            raise SimulatorFault(
                f"{register.title()}: is #{value:x}, must be #{must:x} (others are not modelled)"
            )
    low, high = registers[DPU.LUT_LE_SLOPE_SCALE], registers[DPU.LUT_LO_SLOPE_SCALE]
    below, above = registers[DPU.LUT_LE_SLOPE_SHIFT], registers[DPU.LUT_LO_SLOPE_SHIFT]
    return Lut(
        _slope(low.LUT_LE_SLOPE_UFLOW_SCALE, below.LUT_LE_SLOPE_UFLOW_SHIFT),
        _slope(high.LUT_LO_SLOPE_OFLOW_SCALE, above.LUT_LO_SLOPE_OFLOW_SHIFT),
        not config.EW_OP_BYPASS,
    )


def _slope(scale: int, shift: int) -> Scale:
    if scale >= 1 << 15:
        raise SimulatorFault(
            f"DPU: the slope of a table is #{scale:x}, must be below #8000 (its sign is not known)"
        )
    return Scale(scale, shift)


def output(registers: RegisterFile) -> Output:
    """Return the output converter."""
    shift = registers[DPU.OUT_CVT_SHIFT]
    _near("DPU.OUT_CVT_SHIFT: OUT_CVT_SHIFT", shift.OUT_CVT_SHIFT)
    return Output(
        Scale(signed(registers[DPU.OUT_CVT_SCALE].OUT_CVT_SCALE, 16), shift.OUT_CVT_SHIFT),
        registers[DPU.OUT_CVT_OFFSET].OUT_CVT_OFFSET,
        bool(shift.CVT_TYPE),
        bool(shift.CVT_ROUND),
    )


def _near(name: str, shift: int) -> None:
    if shift > _MAX_SHIFT:
        raise SimulatorFault(f"{name} is {shift}, must be at most {_MAX_SHIFT}")
