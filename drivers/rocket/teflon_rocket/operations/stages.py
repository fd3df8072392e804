# Ref: docs/hardware/rocket_vendor.md §0.3 (order in BS and BN), §1 (activations), §2 (elementwise)
"""What the DPU's stages compute, as register values: BS, BN, EW, in passes of the DPU alone."""

from __future__ import annotations

import enum
from typing import NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.registers import DPU

_ADD = 2  # *_ALU_ALGO
_INT16 = 0xFFFF


class Stage(NamedTuple):
    """BS or BN. BS computes (v + add) * factor >> shift, BN (v * factor + add) >> shift; then
    max(v, 0) if `relu`, min(v, ceiling) if set.

    add, factor: a number, one for each channel (`add` int32, `factor` int16), or None: left out.
    negative_shift: the shift of values below 0, None: the same. prelu: only values below 0 are
    multiplied.
    """

    add: int | Constant | None = None
    factor: int | Constant | None = None
    shift: int = 0
    negative_shift: int | None = None
    prelu: bool = False
    relu: bool = False
    ceiling: int | None = None

    @property
    def off(self) -> bool:
        """Whether it does nothing."""
        return self.add is None and self.factor is None and not self.relu

    @property
    def below(self) -> int:
        """The shift of values below 0, as registers have it."""
        return self.shift if self.negative_shift is None else self.negative_shift


OFF = Stage()


class Kind(enum.Enum):
    """How EW combines two values: (EW_OP_TYPE, EW_ALU_ALGO)."""

    ADD = (0, 2)
    MAXIMUM = (0, 0)
    MINIMUM = (0, 1)
    MULTIPLY = (1, 0)


class Source(NamedTuple):
    """A part of a feature map: the pixel and the surface that it begins with.

    spread: as EW's operand, this one pixel goes with all pixels of the pass. A map of one image
    goes with all images.
    """

    feature: Feature
    top: int = 0
    left: int = 0
    surface: int = 0
    spread: bool = False

    def offset(self, image: int) -> int:
        """Return the bytes from the beginning of the feature map to the part in one image."""
        feature = self.feature
        pixels = self.top * feature.shape[2] + self.left
        surfaces = self.surface * feature.surface_bytes
        first = image * feature.image_bytes if feature.shape[0] > 1 else 0
        return first + surfaces + pixels * LANES


class Pixels(NamedTuple):
    """Constant bytes for each pixel and channel: surfaces without gaps, `pitch` pixels apart.

    image_bytes: from one image to the next, 0 if there is one for all images. start: bytes to the
    first pixel.
    """

    constant: Constant
    pitch: int
    image_bytes: int = 0
    start: int = 0

    def offset(self, image: int) -> int:
        """Return the bytes from the beginning of the constant to the first pixel of one image."""
        return self.start + image * self.image_bytes


class Other(NamedTuple):
    """EW's operand: v becomes kind(v, (other + offset) * scale >> shift), then max(v, 0) if `relu`.

    source: a part of a feature map that has the pass's size or one pixel, constant bytes for each
    pixel and channel, or for each channel.
    """

    kind: Kind
    source: Source | Pixels | Constant
    offset: int
    scale: int
    shift: int
    relu: bool = False

    @property
    def per_pixel(self) -> bool:
        """Whether there is a byte for each pixel and channel, else one for each channel."""
        if isinstance(self.source, Source):
            return not self.source.spread
        return isinstance(self.source, Pixels)

    @property
    def constant(self) -> Constant | None:
        """The operand's bytes where they are constant."""
        if isinstance(self.source, Source):
            return None
        return self.source.constant if isinstance(self.source, Pixels) else self.source


def emit_bs(c: Commands, stage: Stage) -> None:
    """Write the registers of BS."""
    streamed = isinstance(stage.factor, Constant)
    c.write(DPU.BS_CFG, **_config("BS", stage))
    c.write(DPU.BS_ALU_CFG, BS_ALU_OPERAND=_number(stage.add))
    c.write(
        DPU.BS_MUL_CFG,
        BS_MUL_SRC=int(streamed),
        BS_MUL_SHIFT_VALUE=stage.shift,
        BS_MUL_OPERAND=_number(stage.factor),
    )
    c.write(DPU.BS_RELUX_CMP_VALUE, BS_RELUX_CMP_DAT=stage.ceiling or 0)


def emit_bn(c: Commands, stage: Stage) -> None:
    """Write the registers of BN."""
    streamed = isinstance(stage.factor, Constant)
    c.write(DPU.BN_CFG, **_config("BN", stage))
    c.write(DPU.BN_ALU_CFG, BN_ALU_OPERAND=_number(stage.add))
    c.write(
        DPU.BN_MUL_CFG,
        BN_MUL_SRC=int(streamed),
        BN_MUL_SHIFT_VALUE=stage.shift,
        BN_MUL_OPERAND=_number(stage.factor),
    )
    c.write(DPU.BN_RELUX_CMP_VALUE, BN_RELUX_CMP_DAT=stage.ceiling or 0)


def emit_ew(c: Commands, other: Other | None) -> None:
    """Write the registers of EW for an operand, or leave the stage out."""
    if other is None:
        c.write(
            DPU.EW_CFG, EW_BYPASS=1, EW_OP_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_CVT_BYPASS=1,
            EW_RELU_BYPASS=1,
        )  # fmt: skip
        offset, scale, shift = 0, 1, 0
    else:
        kind, algorithm = other.kind.value
        c.write(
            DPU.EW_CFG, EW_OP_TYPE=kind, EW_OP_SRC=1, EW_LUT_BYPASS=1,
            EW_RELU_BYPASS=int(not other.relu), EW_ALU_ALGO=algorithm, EDATA_SIZE=1,
            EW_DATA_MODE=int(other.per_pixel), EW_CVT_TYPE=1,
        )  # fmt: skip
        offset, scale, shift = other.offset, other.scale, other.shift
    c.write(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=offset)
    c.write(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=scale & _INT16, EW_OP_CVT_SHIFT=shift)
    c.clear(DPU.EW_RELUX_CMP_VALUE)


def _number(operand: int | Constant | None) -> int:
    return operand if isinstance(operand, int) else 0


def _config(name: str, stage: Stage) -> dict[str, int]:
    """Return the fields of BS_CFG or BN_CFG."""
    fields = {
        "BYPASS": int(stage.off),
        "ALU_BYPASS": int(stage.add is None),
        "MUL_BYPASS": int(stage.factor is None),
        "MUL_PRELU": int(stage.prelu),
        "RELU_BYPASS": int(not stage.relu),
        "RELUX_EN": int(stage.ceiling is not None),
        "ALU_SRC": int(isinstance(stage.add, Constant)),
        "ALU_ALGO": 0 if stage.add is None else _ADD,
    }
    return {f"{name}_{field}": value for field, value in fields.items()}
