"""What the kernel answers to GET_PARAM about each core of the family.

Linux has a table for the cores that it knows, and reads the registers of all others. What those
hold is published for none of them: they are given the numbers of the VIPNano-QI, which are the same
as those of the VIPNano-SI+, and are marked as assumed.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gpu.c (etnaviv_gpu_get_param, etnaviv_hw_identify)
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon_etnaviv import uapi
from teflon_etnaviv.chips import Identity


@dataclass(frozen=True)
class Core:
    """The numbers of one core beside its identity. `features` is chipFeatures, then the words of
    minor features.
    """

    features: tuple[int, ...]
    stream_count: int = 8
    register_max: int = 64
    thread_count: int = 256
    vertex_cache_size: int = 16
    shader_core_count: int = 1
    pixel_pipes: int = 1
    vertex_output_buffer_size: int = 1024
    buffer_size: int = 0
    instruction_count: int = 512
    num_constants: int = 320
    num_varyings: int = 16
    assumed: bool = False  # no source tells the numbers of this core

    @property
    def pipes(self) -> tuple[bool, ...]:
        """Whether the core has the units for 3D, 2D and VG.

        Ref: Linux, drivers/gpu/drm/etnaviv/common.xml.h (chipFeatures_PIPE_3D, _2D, _VG)
        """
        return tuple(bool(self.features[0] & bit) for bit in (1 << 2, 1 << 9, 1 << 26))


# Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_hwdb.c (0x8000 0x7120 and 0x8000 0x8002)
_VIPNANO = Core(
    features=(
        0xE0287CAC, 0xC1799EFF, 0xFEFBFADB, 0xEB9D6FBF, 0xEDFFFCED, 0xD30DAFC7, 0x7B5AC333,
        0xFC8EE200, 0x03FFFA6F, 0x00FE0EF0, 0x0088003C, 0x108048C0, 0x00000010,
    ),
)  # fmt: skip

# Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_hwdb.c (0x7000 0x6204)
_GC7000_6204 = Core(
    features=(
        0xE0287C8D, 0xC1589EFF, 0xFEFBFAD9, 0xEB9D4FBF, 0xEDFFFCED, 0xDB0DAFC7, 0x3B5AC333,
        0xFCCE6000, 0xFFFBFA6F, 0x00E10EF3, 0x04C8003C, 0x00004060, 0x00000024,
    ),
    stream_count=16,
    thread_count=512,
    shader_core_count=2,
)  # fmt: skip

# Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_hwdb.c (0x8000 0x6205, newer than Linux 6.12)
_GC8000_6205 = Core(
    features=(
        0xE0287C8D, 0xC1799EFF, 0xFEFBFAD9, 0xEB9D4FBF, 0xEDFFFCED, 0xDB0DAFC7, 0x7B5AC333,
        0xFCCE6000, 0x03FBFA6F, 0x00EF0EF0, 0x0ECA703C, 0x898048F0, 0x00000034,
    ),
    stream_count=16,
    thread_count=512,
    shader_core_count=2,
)  # fmt: skip

_ANY = None
_TABLE: tuple[tuple[tuple[int | None, ...], Core], ...] = (
    ((0x8000, 0x7120, 0x45080009, 0x88, 0), _VIPNANO),
    ((0x8000, 0x8002, 0x05080009, 0x9F, 0x06000000), _VIPNANO),
    ((0x8000, 0x6205, 0x80003, 0x15, 0), _GC8000_6205),
    ((0x7000, 0x6204, _ANY, _ANY, 0), _GC7000_6204),
)
"""Model, revision, product, customer and eco id, as the kernel compares them -> the core."""

_ASSUMED = Core(features=_VIPNANO.features, assumed=True)


def core(identity: Identity) -> Core:
    """Return the numbers of the core with this identity."""
    own = (identity.model, identity.revision, identity.product, identity.customer, identity.eco)
    for row, found in _TABLE:
        if all(want in (_ANY, have) for want, have in zip(row, own, strict=True)):
            return found
    return _ASSUMED


def parameters(identity: Identity) -> dict[int, int]:
    """Return the value of every parameter that the kernel knows, by its number."""
    found = core(identity)
    features = {uapi.PARAM_FEATURES_0 + n: word for n, word in enumerate(found.features)}
    return features | {
        uapi.PARAM_MODEL: identity.model,
        uapi.PARAM_REVISION: identity.revision,
        uapi.PARAM_STREAM_COUNT: found.stream_count,
        uapi.PARAM_REGISTER_MAX: found.register_max,
        uapi.PARAM_THREAD_COUNT: found.thread_count,
        uapi.PARAM_VERTEX_CACHE_SIZE: found.vertex_cache_size,
        uapi.PARAM_SHADER_CORE_COUNT: found.shader_core_count,
        uapi.PARAM_PIXEL_PIPES: found.pixel_pipes,
        uapi.PARAM_VERTEX_OUTPUT_BUFFER_SIZE: found.vertex_output_buffer_size,
        uapi.PARAM_BUFFER_SIZE: found.buffer_size,
        uapi.PARAM_INSTRUCTION_COUNT: found.instruction_count,
        uapi.PARAM_NUM_CONSTANTS: found.num_constants,
        uapi.PARAM_NUM_VARYINGS: found.num_varyings,
        uapi.PARAM_SOFTPIN_START: uapi.SOFTPIN_START,
        uapi.PARAM_PRODUCT: identity.product,
        uapi.PARAM_CUSTOMER: identity.customer,
        uapi.PARAM_ECO: identity.eco,
    }
