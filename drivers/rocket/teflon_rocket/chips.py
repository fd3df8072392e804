# Ref: docs/hardware/rocket.md §1.1, §1.6 (cores, MACs), §2.1 (device tree), §6.1 (buffer)
# Ref: docs/hardware/rocket_vendor.md finding 4 (depthwise rows)
# Ref: docs/hardware/rocket_registers.json (widths of the size fields)
# Ref: docs/hardware/rocket_vendor.md §2 (limits of the PPU)
# Ref: RK3588 TRM part 1, chapter 36
# Ref: docs/hardware/rocket.md §1.6: 15 to 20 us for each job
# Ref: Linux, arch/arm64/boot/dts/rockchip/rk3588-base.dtsi, npu@fdab0000: assigned-clock-rates of
# Ref: SCMI_CLK_NPU is 200 MHz, and the rocket kernel driver sets no other; the vendor's kernel goes
# Ref: up to 1 GHz, where 6 TOPS come from (docs/estimate.md)
# Ref: docs/estimate.md says how the fitted constant was found (tools/fit_estimate.py)
"""One row of limits and one of rates per chip."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Chip:
    """What one chip's NPU can hold, count and do. Sizes in bytes unless the name says otherwise."""

    name: str
    summary: str
    compatible: str
    """Device tree compatible of a core."""

    cores: int
    clock_hz: int
    """As mainline Linux sets it; the models of time use the same."""
    macs_per_cycle: int
    """8-bit multiply-accumulates per cycle and core."""

    cbuf_banks: int
    """Banks of the convolution buffer of a core, shared by features and weights."""
    cbuf_bank_bytes: int
    cbuf_entry_bytes: int
    """An entry as CBUF_CON1.DATA_ENTRIES counts them."""

    atom_channels: int
    """8-bit channels that lie together in memory: one 16-byte atom."""
    kernel_group: int
    """Kernels whose weights lie together."""
    weight_channels: int
    """Channels of a weight row of a direct convolution."""
    depthwise_channels: int
    """Channels of a weight row of a depthwise convolution."""
    depthwise_rows: tuple[int, ...]
    """Bytes that such a row may have; the last channels take the narrowest that holds them."""

    max_width: int
    """Columns of an input or output cube; with the field's maximum the last ones come out wrong."""
    max_height: int
    max_channels: int
    max_kernel: int
    max_stride: int
    max_dilation: int
    max_spread: int
    """Distance that a deconvolution puts between the columns and rows of its input."""
    max_pad: int
    """Padding above and left of the input."""
    address_bits: int

    ppu_kernel: int
    """Rows and columns of a window of the PPU in the vendor's lists."""
    ppu_stride: int
    ppu_columns: int
    """Columns of the PPU's output in one task, where one row of windows is open at a time."""
    ppu: bool = False
    """Whether programs may use the PPU: the kernel must wait for its interrupts."""

    @property
    def bank_entries(self) -> int:
        """Entries of one bank, in the unit of CBUF_CON1.DATA_ENTRIES."""
        return self.cbuf_bank_bytes // self.cbuf_entry_bytes

    @property
    def cbuf_bytes(self) -> int:
        return self.cbuf_banks * self.cbuf_bank_bytes


RK3588 = Chip(
    name="rk3588",
    summary="Rockchip RK3588, RK3588S: three cores, 6 TOPS in all at 1 GHz",
    compatible="rockchip,rk3588-rknn-core",
    cores=3,
    clock_hz=200_000_000,
    macs_per_cycle=1024,
    cbuf_banks=12,
    cbuf_bank_bytes=32 * 1024,
    cbuf_entry_bytes=64,
    atom_channels=16,
    kernel_group=32,
    weight_channels=32,
    depthwise_channels=64,
    depthwise_rows=(16, 32, 64),
    max_width=2046,  # DATA_SIZE0.DATAIN_WIDTH and DATA_SIZE2.DATAOUT_WIDTH have 11 bits
    max_height=2046,  # DATA_SIZE0.DATAIN_HEIGHT has 11 bits
    max_channels=8176,  # DATA_CUBE_CHANNEL.CHANNEL has 13 bits and must stay below its maximum
    max_kernel=31,  # WEIGHT_SIZE2.WEIGHT_WIDTH, WEIGHT_HEIGHT have 5 bits
    max_stride=7,  # CONV_CON3.CONV_X_STRIDE, CONV_Y_STRIDE have 3 bits
    max_dilation=32,  # CONV_CON3.ATROUS_X_DILATION, ATROUS_Y_DILATION have 5 bits, less 1
    max_spread=8,  # CONV_CON3.DECONV_X_STRIDE, DECONV_Y_STRIDE have 3 bits, less 1
    max_pad=15,  # PAD_CON0.PAD_TOP, PAD_LEFT have 4 bits
    address_bits=32,  # every address register has 32 bits
    ppu_kernel=7,
    ppu_stride=7,
    ppu_columns=128,
)

CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in (RK3588,)})


@dataclass(frozen=True)
class Rates:
    """What one core does in a millisecond, and what starting work costs."""

    cycles: float
    """Of the array: the chip's clock. Published."""
    memory: float
    """Bytes that a core moves from or to DRAM. Fitted."""
    job: float
    """Milliseconds for each job. Published."""
    host: float
    """Bytes of surfaces that one CPU core converts. Assumed."""


CORES = (0xFDAB0000, 0xFDAC0000, 0xFDAD0000)
"""Addresses of the cores. Ref: Linux, arch/arm64/boot/dts/rockchip/rk3588-base.dtsi"""

RATES: Mapping[str, Rates] = MappingProxyType(
    {"rk3588": Rates(cycles=RK3588.clock_hz / 1e3, memory=3.36e6, job=0.0175, host=1e6)}
)
