"""What each NPU of the family is: its identity, as the kernel reports it, its sizes and features.

Ref: docs/hardware/etnaviv.md sections 1.2 to 1.5
Ref: docs/hardware/etnaviv_vendor.md, features by chip
Ref: Mesa, src/etnaviv/hwdb and src/gallium/drivers/etnaviv/etnaviv_screen.c
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from teflon.errors import DriverUnavailable, did_you_mean
from teflon_etnaviv import features
from teflon_etnaviv.features import Features


@dataclass(frozen=True)
class Identity:
    """What GET_PARAM answers for one core ("pipe") of a node."""

    model: int
    revision: int
    product: int = 0
    customer: int = 0
    eco: int = 0

    def __str__(self) -> str:
        return (
            f"model 0x{self.model:x} revision 0x{self.revision:x} product 0x{self.product:x}"
            f" customer 0x{self.customer:x} eco 0x{self.eco:x}"
        )


GPU = Identity(0x7000, 0x6204, 0x70005)
"""A GC7000: a core of this family without NN cores."""


@dataclass(frozen=True)
class Chip:
    """One NPU. Names of features follow the vendor's database; sizes are bytes."""

    name: str  # what users say: "a311d"
    database_name: str
    summary: str
    identities: tuple[Identity, ...]
    nn_core_count: int
    tp_core_count: int
    on_chip_sram_size: int
    axi_sram_size: int
    nn_zrl_bits: int  # widest zero-run field of a V7 stream
    nn_input_buffer_depth: int
    nn_accum_buffer_depth: int
    nn_core_version: int  # 7: zero-run streams, 8: Huffman streams
    image_offset_bits: int  # of the first tap's signed offset
    kernel_size_max: int
    fc_kernel_y_max: int
    ddr_kernel_burst: int = 0x40
    nn_mad_per_core: int = 64
    lut_entries: int = 1024
    tp_job_max: int = 4  # jobs that one operation's job array holds in Mesa
    # Ref: docs/hardware/etnaviv.md section 3.1: 13 bits of in_image_x_size and the like
    nn_image_max: int = 8191  # rows and columns of a map
    # Ref: docs/hardware/etnaviv.md section 3.1: 14 bits of kernel_z_size and out_image_z_size
    nn_planes_max: int = 16383
    # Ref: docs/hardware/etnaviv.md section 3.2: 16 bits of in_image_x_size and the like
    tp_image_max: int = 65535  # bytes of a row, and rows
    # Ref: docs/hardware/etnaviv.md section 3.2: 16 signed bits of in_window_x_end and the like
    tp_window_max: int = 32768  # pixels along x and y of what is padded
    depthwise_mode: bool = False  # NN cores take one plane for each kernel
    plain_codes: bool = False  # Huffman streams code bytes as they are: see `huffman_variant`
    image_caching: bool = False  # Huffman chips keep input tiles in SRAM: nobody has confirmed it
    features: Features | None = None  # None: the vendor's table is not known for this chip

    @property
    def missing(self) -> str:
        """What the chip has that no source says how to program; "" where that is nothing."""
        return features.missing(self.features) if self.features else ""

    @property
    def huffman(self) -> bool:
        """Whether coefficients are Huffman coded and centred on 128 (V8)."""
        return self.nn_core_version >= 8

    @property
    def tp_jobs(self) -> int:
        """Into how many jobs an operation is split at most."""
        return min(self.tp_core_count, self.tp_job_max)

    @property
    def padding_max(self) -> int:
        """Rows above and columns left of a map: the lowest offset of the first tap.

        Ref: docs/hardware/etnaviv.md section 3.1 (in_image_x_offset, signed)
        """
        return 1 << (self.image_offset_bits - 1)


_A311D = Chip(
    name="a311d",
    database_name="vipnano-qi",
    summary="Amlogic A311D",
    identities=(Identity(0x8000, 0x7120, 0x45080009, 0x88, 0),),
    nn_core_count=8,
    tp_core_count=4,
    on_chip_sram_size=0x80000,
    axi_sram_size=0x100000,
    nn_zrl_bits=features.A311D.nn_zrl_bits,
    nn_input_buffer_depth=12,
    nn_accum_buffer_depth=64,
    nn_core_version=7,
    image_offset_bits=4,
    kernel_size_max=features.A311D.nn_kernel_size,
    fc_kernel_y_max=15,
    features=features.A311D,
)

# Mesa drives this chip as V7; its author found that the silicon wants Huffman streams.
# Ref: docs/hardware/etnaviv.md section 1.3
_S905D3 = Chip(
    name="s905d3",
    database_name="vippico_v3",
    summary="Amlogic S905D3",
    identities=(Identity(0x8000, 0x7131, 0x08000001, 0x99, 0x02000000),),
    nn_core_count=2,
    tp_core_count=1,
    on_chip_sram_size=0x80000,
    axi_sram_size=0,
    nn_zrl_bits=features.S905D3.nn_zrl_bits,
    nn_input_buffer_depth=6,
    nn_accum_buffer_depth=64,
    nn_core_version=7,
    image_offset_bits=4,
    kernel_size_max=features.S905D3.nn_kernel_size,
    fc_kernel_y_max=15,
    features=features.S905D3,
)

_IMX8MP = Chip(
    name="imx8mp",
    database_name="vipnano-si+",
    summary="NXP i.MX8M Plus",
    identities=(
        Identity(0x8000, 0x8002, 0x05080009, 0x9F, 0x06000000),
        Identity(0x8000, 0x8002, 0x05080009, 0xA0, 0x06000000),
    ),
    nn_core_count=6,
    tp_core_count=3,
    on_chip_sram_size=0x40000,
    axi_sram_size=0,
    nn_zrl_bits=features.IMX8MP.nn_zrl_bits,
    nn_input_buffer_depth=9,
    nn_accum_buffer_depth=32,
    nn_core_version=8,
    image_offset_bits=5,
    kernel_size_max=features.IMX8MP.nn_kernel_size,
    fc_kernel_y_max=15,
    ddr_kernel_burst=0x100,
    depthwise_mode=features.IMX8MP.nn_depthwise_support,
    features=features.IMX8MP,
)


def _other(
    name: str,
    database_name: str,
    identities: tuple[Identity, ...],
    cores: tuple[int, int],
    sram: tuple[int, int],
    nn: tuple[int, int, int],
    version: int,
    offset_bits: int = 0,
    known: Features | None = None,
) -> Chip:
    """Return a row of section 1.4; kernel limits are those of the version's chips in 1.3."""
    largest = 15 if version >= 8 else 11
    return Chip(
        name=name,
        database_name=database_name,
        summary=f"{database_name} (from the vendor's database; no recordings exist)",
        identities=identities,
        nn_core_count=cores[0],
        tp_core_count=cores[1],
        on_chip_sram_size=sram[0],
        axi_sram_size=sram[1],
        nn_zrl_bits=nn[0],
        nn_input_buffer_depth=nn[1],
        nn_accum_buffer_depth=nn[2],
        nn_core_version=version,
        image_offset_bits=offset_bits or (5 if version >= 8 else 4),
        kernel_size_max=largest,
        fc_kernel_y_max=15,
        depthwise_mode=version >= 8,
        features=known,
    )


CHIPS: tuple[Chip, ...] = (
    _A311D,
    _S905D3,
    _IMX8MP,
    _other(
        "vipnano-qi-7004",
        "vipnano-qi",
        tuple(Identity(0x8000, 0x7004, 0x45080009, 0x7D, eco) for eco in (0, 1)),
        (8, 4), (0x80000, 0x100000), (5, 12, 64), 7, offset_bits=3,
    ),
    _other(
        "vipnano-qi-7131",
        "vipnano-qi",
        (Identity(0x8000, 0x7131, 0x05000009, 0xA1, 0x08000000),),
        (8, 6), (0x100000, 0x43F000), (8, 12, 64), 7, known=features.VIPNANO_QI_7131,
    ),
    _other(
        "vip9000nano-di-8302",
        "vip9000nano-di",
        (Identity(0x9000, 0x8302, 0x05090009, 0xE8, 0x08000000),),
        (8, 1), (0x100000, 0), (8, 9, 32), 8, known=features.VIP9000,
    ),
    _other(
        "vip9000nano-si-8101",
        "vip9000nano-si",
        (Identity(0x9000, 0x8101, 0x05090009, 0xB9, 0x04000000),),
        (4, 1), (0x80000, 0), (8, 9, 32), 8,
    ),
    _other(
        "vip9000nano-di-8102",
        "vip9000nano-di",
        (Identity(0x9000, 0x8102, 0x05090009, 0xBE, 0x08000000),),
        (8, 3), (0x100000, 0x3E000), (8, 9, 32), 8,
    ),
    _other(
        "gcnanoultra31-6204",
        "GCNANOULTRA31_VIP2",
        (Identity(0x7000, 0x6204, 0x70007, 0x13, 0),),
        (2, 1), (0x200, 0), (8, 6, 64), 7,
    ),
    _other(
        "gcnanoultra31-6205",
        "GCNANOULTRA31_VIP2",
        (Identity(0x8000, 0x6205, 0x80003, 0x15, 0),),
        (2, 1), (0x20000, 0), (8, 6, 64), 7,
    ),
)  # fmt: skip

NAMES: tuple[str, ...] = tuple(chip.name for chip in CHIPS)


def chip(name: str) -> Chip:
    """Return the chip of this name. Raises DriverUnavailable with the nearest name."""
    for row in CHIPS:
        if row.name == name:
            return row
    raise DriverUnavailable(
        f"chip {name!r}: the etnaviv driver does not know it, must be one of"
        f" {', '.join(NAMES)}{did_you_mean(name, NAMES)}"
    )


def huffman_variant(row: Chip) -> Chip:
    """Return the S905D3 as Mesa's V8 code would drive it if its branch for this customer ran.

    Coefficients are Huffman coded as on V8, under another header and without the zero point taken
    off; there is no depthwise mode. Nobody has confirmed that the silicon computes with this.
    Ref: docs/hardware/etnaviv.md sections 1.3 and 7.4
    """
    return replace(row, nn_core_version=8, plain_codes=True)


def identify(identity: Identity) -> Chip | None:
    """Return the NPU with this identity; None for a GPU and for an NPU that no table knows.

    All five numbers must be equal, as for the formal releases of the vendor's database.
    """
    return next((row for row in CHIPS if identity in row.identities), None)


class Unusable(NamedTuple):
    """Why no core of a node can be used, and what its user can do about it."""

    problem: str
    cure: str


def npu_pipe(identities: list[Identity]) -> tuple[int, Chip] | Unusable:
    """Return (pipe, chip) of the first NPU among a node's cores that the driver can program, else
    why there is none.
    """
    known = [(pipe, found) for pipe, each in enumerate(identities) if (found := identify(each))]
    for pipe, found in known:
        if not found.missing:
            return pipe, found
    if known:
        return _refused(known[0][1])
    cores = "; ".join(f"pipe {i}: {identity}" for i, identity in enumerate(identities))
    problem = (
        f"none of its cores is a known NPU, a GPU without NN cores cannot run models ({cores})"
    )
    return Unusable(
        problem if identities else "no core answers on this node",
        "this node's cores are GPUs, or an NPU that is not in the tables of this driver",
    )


def _refused(found: Chip) -> Unusable:
    """Return why an NPU is not used that is known, but not how it is programmed."""
    return Unusable(
        f"{found.name} ({found.identities[0]}) is an NPU of another class than this driver's: it"
        f" has {found.missing}, and how its instructions say so is in no recording and no source",
        "run models with --device cpu; a recording of its vendor's driver would show what is"
        " missing (docs/recordings.md)",
    )
