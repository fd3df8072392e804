# Ref: docs/hardware/rocket.md §7.1 words 59-108, §8.4, §8.6, §8.7
"""DPU: post-processing BS -> BN -> EW -> output converter, and the write to memory."""

from dataclasses import dataclass

from teflon.errors import SimulatorFault
from teflon_rocket.registers import DPU

from .cube import ATOM, aligned
from .registerfile import Fields, RegisterFile

FIELDS: Fields = {
    DPU.S_POINTER: "POINTER_PP_EN EXECUTER_PP_EN POINTER_PP_MODE",
    DPU.FEATURE_MODE_CFG: "OUTPUT_MODE CONV_MODE BURST_LEN",
    DPU.DATA_FORMAT: "BS_MUL_SHIFT_VALUE_NEG BN_MUL_SHIFT_VALUE_NEG",
    DPU.OFFSET_PEND: "OFFSET_PEND",
    DPU.DST_BASE_ADDR: "DST_BASE_ADDR",
    DPU.DST_SURF_STRIDE: "DST_SURF_STRIDE",
    DPU.DATA_CUBE_WIDTH: "WIDTH",
    DPU.DATA_CUBE_HEIGHT: "HEIGHT",
    DPU.DATA_CUBE_NOTCH_ADDR: "",
    DPU.DATA_CUBE_CHANNEL: "CHANNEL ORIG_CHANNEL",
    DPU.BS_CFG: "BS_BYPASS BS_ALU_BYPASS BS_MUL_BYPASS BS_RELU_BYPASS BS_RELUX_EN BS_ALU_SRC"
    " BS_ALU_ALGO",
    DPU.BS_ALU_CFG: "BS_ALU_OPERAND",
    DPU.BS_MUL_CFG: "BS_MUL_SRC BS_MUL_SHIFT_VALUE BS_MUL_OPERAND",
    DPU.BS_RELUX_CMP_VALUE: "BS_RELUX_CMP_DAT",
    DPU.BS_OW_CFG: "OW_SRC OD_BYPASS SIZE_E_0 SIZE_E_1 SIZE_E_2",
    DPU.BS_OW_OP: "OW_OP",
    DPU.WDMA_SIZE_0: "CHANNEL_WDMA",
    DPU.WDMA_SIZE_1: "WIDTH_WDMA HEIGHT_WDMA",
    DPU.BN_CFG: "BN_BYPASS BN_ALU_BYPASS BN_MUL_BYPASS BN_RELU_BYPASS BN_RELUX_EN BN_ALU_ALGO",
    DPU.BN_ALU_CFG: "BN_ALU_OPERAND",
    DPU.BN_MUL_CFG: "BN_MUL_SHIFT_VALUE BN_MUL_OPERAND",
    DPU.BN_RELUX_CMP_VALUE: "BN_RELUX_CMP_DAT",
    DPU.EW_CFG: "EW_BYPASS EW_OP_BYPASS EW_OP_SRC EW_LUT_BYPASS EW_OP_CVT_BYPASS EW_RELU_BYPASS"
    " EW_RELUX_EN EW_ALU_ALGO EDATA_SIZE EW_DATA_MODE EW_CVT_ROUND EW_CVT_TYPE",
    DPU.EW_CVT_OFFSET_VALUE: "EW_OP_CVT_OFFSET",
    DPU.EW_CVT_SCALE_VALUE: "EW_OP_CVT_SCALE EW_OP_CVT_SHIFT",
    DPU.EW_RELUX_CMP_VALUE: "EW_RELUX_CMP_DAT",
    DPU.OUT_CVT_OFFSET: "OUT_CVT_OFFSET",
    DPU.OUT_CVT_SCALE: "OUT_CVT_SCALE",
    DPU.OUT_CVT_SHIFT: "OUT_CVT_SHIFT CVT_ROUND CVT_TYPE",
    **{getattr(DPU, f"EW_OP_VALUE_{i}"): "" for i in range(8)},
    DPU.SURFACE_ADD: "SURF_ADD",
    DPU.UNKNOWN_40C4: "",
    DPU.LUT_ACCESS_CFG: "",
    DPU.LUT_ACCESS_DATA: "",
    DPU.LUT_CFG: "",
    DPU.LUT_INFO: "",
    DPU.LUT_LE_START: "",
    DPU.LUT_LE_END: "",
    DPU.LUT_LO_START: "",
    DPU.LUT_LO_END: "",
    DPU.LUT_LE_SLOPE_SCALE: "",
    DPU.LUT_LE_SLOPE_SHIFT: "",
    DPU.LUT_LO_SLOPE_SCALE: "",
    DPU.LUT_LO_SLOPE_SHIFT: "",
}

_TO_MEMORY = 2
_ADD, _SUBTRACT = 2, 4
_EW_ALGORITHMS = {0: "max", 1: "min", 2: "add", 4: "subtract"}
_EW_STAGE_ON = 1, 1, 1
"""EDATA_SIZE (8 bits), EW_DATA_MODE (per pixel), EW_OP_SRC (from ERDMA) of a modelled operand."""
_MAX_SHIFT = 60


@dataclass(frozen=True)
class Scale:
    """Multiply and shift right, rounded; `negative` is the shift of negative values."""

    multiplier: int
    shift: int
    negative: int | None = None
    """None: the same."""


@dataclass(frozen=True)
class Stage:
    """BS or BN: add, multiply and shift, clamp. None: bypassed; "stream": per channel."""

    add: int | str | None = None
    subtract: bool = False
    multiply: Scale | None = None
    streamed: bool = False
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Elementwise:
    """EW: the converter of the int8 operand, how it is combined, and the clamp after that."""

    algorithm: str
    offset: int
    scale: Scale
    add_first: bool
    ties_up: bool
    low: int | None
    high: int | None


@dataclass(frozen=True)
class Output:
    """Output converter."""

    scale: Scale
    offset: int
    add_first: bool
    ties_up: bool


@dataclass(frozen=True)
class DpuTask:
    """What the DPU does in one task."""

    address: int
    surface_bytes: int
    width: int
    height: int
    channels: int
    padded_channels: int
    depthwise: bool
    pend: int
    compensation: int | str | None
    """OW: one number for all channels, "stream", or None when bypassed."""
    bs: Stage
    bn: Stage
    ew: Elementwise | None
    output: Output


def plan(registers: RegisterFile) -> DpuTask:
    """Read the DPU's registers; raises SimulatorFault for what is wrong or not modelled."""
    cube, mode = registers[DPU.DATA_CUBE_CHANNEL], registers[DPU.FEATURE_MODE_CFG]
    if mode.OUTPUT_MODE != _TO_MEMORY or mode.CONV_MODE not in (0, 3):
        raise SimulatorFault(f"{mode}: must have OUTPUT_MODE=2 and CONV_MODE 0 or 3")
    if cube.ORIG_CHANNEL > cube.CHANNEL or cube.CHANNEL % ATOM:
        raise SimulatorFault(f"{cube}: CHANNEL must be a multiple of 16 and at least ORIG_CHANNEL")
    address = registers[DPU.DST_BASE_ADDR].DST_BASE_ADDR
    aligned(address, DPU.DST_BASE_ADDR.title())
    surface = registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE
    _check_grouping(registers, mode.CONV_MODE == 3, surface)
    return DpuTask(
        address,
        surface * ATOM,
        registers[DPU.DATA_CUBE_WIDTH].WIDTH,
        registers[DPU.DATA_CUBE_HEIGHT].HEIGHT,
        cube.ORIG_CHANNEL,
        cube.CHANNEL,
        mode.CONV_MODE == 3,
        (registers[DPU.OFFSET_PEND].OFFSET_PEND + 128 & 0xFF) - 128,
        _compensation(registers),
        _bs(registers),
        _bn(registers),
        _elementwise(registers),
        _output(registers),
    )


def _check_grouping(registers: RegisterFile, depthwise: bool, surface: int) -> None:
    """Raise SimulatorFault unless channels are grouped as Mesa does it; nothing else is known."""
    groups = 4 if depthwise else 2
    config = registers[DPU.BS_OW_CFG]
    if {config.SIZE_E_0, config.SIZE_E_1, config.SIZE_E_2} != {groups}:
        raise SimulatorFault(
            f"{config}: SIZE_E_0, SIZE_E_1, SIZE_E_2 must be {groups} (others are not modelled)"
        )
    added = registers[DPU.SURFACE_ADD].SURF_ADD
    if added != groups * surface:
        raise SimulatorFault(
            f"DPU.SURFACE_ADD: is {added}, must be {groups} times DST_SURF_STRIDE {surface}"
        )


def _compensation(registers: RegisterFile) -> int | str | None:
    config = registers[DPU.BS_OW_CFG]
    if config.OD_BYPASS:
        return None
    return "stream" if config.OW_SRC else registers[DPU.BS_OW_OP].OW_OP


def _subtracts(name: str, algorithm: int) -> bool:
    if algorithm not in (_ADD, _SUBTRACT):
        raise SimulatorFault(f"{name}_ALU_ALGO is {algorithm}, must be 2 (add) or 4 (subtract)")
    return algorithm == _SUBTRACT


def _scale(name: str, operand: int, shift: int, negative: int) -> Scale:
    """Return a multiplier of 16 bits, signed."""
    if operand < 0 and shift != negative:
        raise SimulatorFault(
            f"{name}_MUL_OPERAND is {operand} with the shifts {shift} and {negative} in"
            f" {name}_MUL_CFG and DPU.DATA_FORMAT, must not be negative (which of the two counts is"
            " not known)"
        )
    return Scale(operand, shift, negative if shift != negative else None)


def _bs(registers: RegisterFile) -> Stage:
    config, mul = registers[DPU.BS_CFG], registers[DPU.BS_MUL_CFG]
    if config.BS_BYPASS:
        return Stage()
    add: int | str | None = None
    if not config.BS_ALU_BYPASS:
        add = "stream" if config.BS_ALU_SRC else registers[DPU.BS_ALU_CFG].BS_ALU_OPERAND
    negative = registers[DPU.DATA_FORMAT].BS_MUL_SHIFT_VALUE_NEG
    scale = None
    if not config.BS_MUL_BYPASS and mul.BS_MUL_SRC:
        scale = _scale("DPU.BS", 1, mul.BS_MUL_SHIFT_VALUE, negative)
    elif not config.BS_MUL_BYPASS:
        scale = _scale("DPU.BS", mul.BS_MUL_OPERAND, mul.BS_MUL_SHIFT_VALUE, negative)
    low, high = _clamp(
        config.BS_RELU_BYPASS, config.BS_RELUX_EN, registers[DPU.BS_RELUX_CMP_VALUE].pack()
    )
    subtract = add is not None and _subtracts("DPU.BS", config.BS_ALU_ALGO)
    return Stage(add, subtract, scale, bool(scale and mul.BS_MUL_SRC), low, high)


def _bn(registers: RegisterFile) -> Stage:
    config, mul = registers[DPU.BN_CFG], registers[DPU.BN_MUL_CFG]
    if config.BN_BYPASS:
        return Stage()
    add = None if config.BN_ALU_BYPASS else registers[DPU.BN_ALU_CFG].BN_ALU_OPERAND
    scale = None
    if not config.BN_MUL_BYPASS:
        negative = registers[DPU.DATA_FORMAT].BN_MUL_SHIFT_VALUE_NEG
        scale = _scale("DPU.BN", mul.BN_MUL_OPERAND, mul.BN_MUL_SHIFT_VALUE, negative)
    low, high = _clamp(
        config.BN_RELU_BYPASS, config.BN_RELUX_EN, registers[DPU.BN_RELUX_CMP_VALUE].pack()
    )
    subtract = add is not None and _subtracts("DPU.BN", config.BN_ALU_ALGO)
    return Stage(add, subtract, scale, False, low, high)


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


def _elementwise(registers: RegisterFile) -> Elementwise | None:
    config = registers[DPU.EW_CFG]
    if not config.EW_LUT_BYPASS:
        raise SimulatorFault("DPU.EW_CFG: EW_LUT_BYPASS is 0, tables are not modelled, must be 1")
    if config.EW_BYPASS:
        return None
    if config.EW_OP_BYPASS:
        raise SimulatorFault("DPU.EW_CFG: EW_OP_BYPASS without EW_BYPASS is not modelled")
    if (config.EDATA_SIZE, config.EW_DATA_MODE, config.EW_OP_SRC) != _EW_STAGE_ON:
        raise SimulatorFault(
            f"{config}: only 8-bit operands per pixel from memory are modelled, must be"
            " EDATA_SIZE=1 EW_DATA_MODE=1 EW_OP_SRC=1"
        )
    if config.EW_ALU_ALGO not in _EW_ALGORITHMS:
        raise SimulatorFault(f"DPU.EW_CFG: EW_ALU_ALGO {config.EW_ALU_ALGO} is not modelled")
    low, high = _clamp(
        config.EW_RELU_BYPASS, config.EW_RELUX_EN, registers[DPU.EW_RELUX_CMP_VALUE].pack()
    )
    converter = registers[DPU.EW_CVT_SCALE_VALUE]
    scale = Scale(converter.EW_OP_CVT_SCALE, converter.EW_OP_CVT_SHIFT)
    offset = registers[DPU.EW_CVT_OFFSET_VALUE].EW_OP_CVT_OFFSET
    if config.EW_OP_CVT_BYPASS:
        scale, offset = Scale(1, 0), 0
    return Elementwise(
        _EW_ALGORITHMS[config.EW_ALU_ALGO],
        offset,
        _positive("DPU.EW_CVT_SCALE_VALUE: EW_OP_CVT", scale),
        bool(config.EW_CVT_TYPE),
        bool(config.EW_CVT_ROUND),
        low,
        high,
    )


def _output(registers: RegisterFile) -> Output:
    shift = registers[DPU.OUT_CVT_SHIFT]
    return Output(
        Scale(registers[DPU.OUT_CVT_SCALE].OUT_CVT_SCALE, shift.OUT_CVT_SHIFT)
        if shift.OUT_CVT_SHIFT <= _MAX_SHIFT
        else _too_far(shift.OUT_CVT_SHIFT),
        registers[DPU.OUT_CVT_OFFSET].OUT_CVT_OFFSET,
        bool(shift.CVT_TYPE),
        bool(shift.CVT_ROUND),
    )


def _positive(name: str, scale: Scale) -> Scale:
    if scale.multiplier >= 1 << 15:
        raise SimulatorFault(
            f"{name}_SCALE is #{scale.multiplier:x}, must be below #8000 (its sign is not known)"
        )
    return scale


def _too_far(shift: int) -> Scale:
    raise SimulatorFault(
        f"DPU.OUT_CVT_SHIFT: OUT_CVT_SHIFT is {shift}, must be at most {_MAX_SHIFT}"
    )
