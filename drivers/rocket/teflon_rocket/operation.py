"""What one rocket operation is: a convolution with everything that its command lists need."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.ir.graph import Value
from teflon.ir.types import Array
from teflon_common.layout import LANES


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature map in the NPU's memory: images of NC1HWC2 surfaces; compared by identity.

    `layout` and `fill` are for the host's conversion, see program.Port.
    """

    name: str
    shape: tuple[int, int, int, int]  # images, height (outer), width (inner), channels
    value: Value | None = None
    layout: str = "surfaces"
    flip: int = 0
    fill: int = 0

    @property
    def surface_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * LANES

    @property
    def image_bytes(self) -> int:
        """Room of one image: twice its surfaces, since the DPU writes channels in 32s or 64s.

        Ref: docs/hardware/rocket.md §4.1
        """
        return self.surface_bytes * -(-self.shape[3] // LANES) * 2

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.image_bytes

    @property
    def row_pitch(self) -> int:
        """Bytes of a row in layout `rows`."""
        return max(self.shape[2], LANES)


@dataclass(frozen=True)
class Operand:
    """The second operand of a fused addition, converted to accumulator units by the EW stage."""

    feature: Feature
    offset: int  # added to the stored int8
    scale: int
    shift: int


@dataclass(frozen=True)
class Clamps:
    """Limits on the accumulator, beyond the saturation of the output converter.

    BS: v := v + bias - origin, then max(v, 0) if `relu`, min(v, ceiling) if set; BN: v += shift.
    EW, after the addition: max(v, 0) if `late_relu`, min(v, late_ceiling) if set.
    """

    origin: int = 0
    relu: bool = False
    ceiling: int | None = None
    shift: int = 0
    late_relu: bool = False
    late_ceiling: int | None = None


NO_CLAMPS = Clamps()


@dataclass(frozen=True)
class Numbers:
    """What quantisation makes of an operation: register values.

    Ref: docs/hardware/rocket.md §4.4 to §4.6, §7.2 to §7.4
    """

    weight_offset: int  # BS_OW_OP
    pad: int  # PAD_CON1, 32 bits
    output_offset: int
    output_scale: int
    output_shift: int  # as it stands in the register
    truncate: int = 0
    input_scale: int = 16384  # one-channel mode: CVT_CON1..4, with the shift below
    input_shift: int = 14
    clamps: Clamps = NO_CLAMPS


@dataclass(frozen=True, eq=False)
class Operation:
    """One convolution on the device, with an addition fused into it where `operand` is set.

    Sizes are the registers': `width` counts along the CNA's x axis.
    """

    name: str
    input: Feature
    output: Feature
    width: int
    height: int
    channels: int
    out_width: int
    out_height: int
    out_channels: int
    kernel: tuple[int, int]  # width, height
    stride: tuple[int, int]  # x, y
    pads: tuple[int, int, int, int]  # left, right, top, bottom
    depthwise: bool
    weights: Array  # uint8 [kernels, taps, channels]; depthwise one kernel
    weight_zero: int  # in uint8's domain
    bias: Array  # int32 [out_channels], as the device adds it
    numbers: Numbers
    operand: Operand | None = None
    feeds_addition: bool = False  # its output is the operand of another operation's addition
    one_channel: bool = False  # CNA in few-channel mode, converter on
    row_input: bool = False  # input lies as rows of bytes
    by_pitch: bool = True  # tiles of such an input start where their row does (Mesa: not)
    row_entries: int | None = None  # CBUF_CON1 where Mesa's rule is not the hardware's
    surface: int = 0  # first surface of the output tensor that it writes
    macs: int = 0

    @property
    def in_addition(self) -> bool:
        return self.operand is not None or self.feeds_addition

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def atoms(self) -> int:
        """16-byte atoms of one input pixel."""
        return -(-self.channels // LANES)

    @property
    def padded_channels(self) -> int:
        return max(self.atoms, 1) * LANES

    @property
    def kernels(self) -> int:
        """Kernels as the device counts them: 1 for depthwise, else an even number."""
        return 1 if self.depthwise else self.out_channels + self.out_channels % 2

    @property
    def padded_out_channels(self) -> int:
        """Ref: docs/hardware/rocket.md §6.3, row oc."""
        padded = _align(max(self.out_channels, 32), 32)
        if not self.depthwise:
            return padded
        return _align(padded * 2 if self.out_channels <= 32 else padded, 64)

    @property
    def weight_bytes(self) -> int:
        """WEIGHT_SIZE0: what the device loads."""
        return self.taps * self.padded_channels * self.kernels

    @property
    def strides(self) -> tuple[int, int]:
        """LINE_STRIDE and SURF_STRIDE of the input.

        Ref: docs/hardware/rocket.md §4.2
        """
        if self.row_input:
            pitch = max(self.width, LANES)
            return pitch, pitch * (self.height - 1)
        return self.width * 4, self.width * (self.height - 4)

    def entries(self, columns: int) -> int:
        """CBUF_CON1.DATA_ENTRIES of a tile of so many columns.

        Ref: docs/hardware/rocket.md §6.3, row data entries
        """
        if self.row_entries is not None:
            return self.row_entries
        width = self.fetched_width(columns)
        if self.one_channel:
            return width * self.height
        part = self.atoms % 4
        return self.atoms // 4 * width + (width if part == 3 else -(-part * width // 4))

    def fetched_width(self, columns: int) -> int:
        """DATAIN_WIDTH for a tile of so many columns.

        Ref: docs/hardware/rocket.md §6.3, row in_w (why 8 columns are doubled is not known)
        """
        wide = columns * 2 if columns == 8 and self.in_addition else columns
        return max(wide, LANES) if self.row_input else wide


def _align(number: int, to: int) -> int:
    return -(-number // to) * to
