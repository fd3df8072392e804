"""The kernel interface of the etnaviv driver: requests, structs, parameters, flags."""

from __future__ import annotations

from teflon_common.drm import GEM_CLOSE, VERSION
from teflon_common.structs import Ioctl, Struct, Uapi, address, s32, s64, u32, u64

# Ref: docs/hardware/etnaviv.md section 2.2
# Ref: Linux, include/uapi/drm/etnaviv_drm.h


class GetParam(Struct, size=16):
    """drm_etnaviv_param: one number about one core."""

    pipe: int = u32()
    param: int = u32()
    value: int = u64()  # out


class GemNew(Struct, size=16):
    """drm_etnaviv_gem_new: a zero-filled buffer."""

    size: int = u64()
    flags: int = u32()
    handle: int = u32()  # out


class GemInfo(Struct, size=16):
    """drm_etnaviv_gem_info: where to map a buffer."""

    handle: int = u32()
    pad: int = u32()
    offset: int = address()  # out


class GemCpuPrep(Struct, size=24):
    """drm_etnaviv_gem_cpu_prep: wait until the CPU may use a buffer; absolute monotonic time."""

    handle: int = u32()
    op: int = u32()
    sec: int = s64()
    nsec: int = s64()


class GemCpuFini(Struct, size=8):
    """drm_etnaviv_gem_cpu_fini: give a buffer back to the device."""

    handle: int = u32()
    flags: int = u32()


class SubmitBo(Struct, size=16):
    """drm_etnaviv_gem_submit_bo: one buffer of a submit; `presumed` is its softpin address."""

    flags: int = u32()
    handle: int = u32()
    presumed: int = address()


class Submit(Struct, size=72):
    """drm_etnaviv_gem_submit: a command stream and the buffers it works on."""

    fence: int = u32()  # out
    pipe: int = u32()
    exec_state: int = u32()
    nr_bos: int = u32()
    nr_relocs: int = u32()
    stream_size: int = u32()  # bytes
    bos: int = address()
    relocs: int = address()
    stream: int = address()
    flags: int = u32()
    fence_fd: int = s32()
    pmrs: int = address()
    nr_pmrs: int = u32()
    pad: int = u32()


class WaitFence(Struct, size=32):
    """drm_etnaviv_wait_fence: wait for a submit; absolute monotonic time."""

    pipe: int = u32()
    fence: int = u32()
    flags: int = u32()
    pad: int = u32()
    sec: int = s64()
    nsec: int = s64()


GET_PARAM = Ioctl("GET_PARAM", "wr", 0x40, GetParam)
GEM_NEW = Ioctl("GEM_NEW", "wr", 0x42, GemNew)
GEM_INFO = Ioctl("GEM_INFO", "wr", 0x43, GemInfo)
GEM_CPU_PREP = Ioctl("GEM_CPU_PREP", "w", 0x44, GemCpuPrep)
GEM_CPU_FINI = Ioctl("GEM_CPU_FINI", "w", 0x45, GemCpuFini)
GEM_SUBMIT = Ioctl("GEM_SUBMIT", "wr", 0x46, Submit)
WAIT_FENCE = Ioctl("WAIT_FENCE", "w", 0x47, WaitFence)

ETNAVIV = Uapi(
    "etnaviv",
    (
        VERSION, GEM_CLOSE, GET_PARAM, GEM_NEW, GEM_INFO, GEM_CPU_PREP, GEM_CPU_FINI, GEM_SUBMIT,
        WAIT_FENCE,
    ),
)  # fmt: skip

PARAM_MODEL, PARAM_REVISION = 0x01, 0x02
PARAM_SOFTPIN_START = 0x1B
PARAM_PRODUCT, PARAM_CUSTOMER, PARAM_ECO = 0x1C, 0x1D, 0x1E

BO_CACHED, BO_WRITE_COMBINE, BO_UNCACHED, BO_FORCE_MMU = 0x10000, 0x20000, 0x40000, 0x100000
PREP_READ, PREP_WRITE, PREP_NOSYNC = 1, 2, 4
SUBMIT_BO_READ, SUBMIT_BO_WRITE = 1, 2
SUBMIT_NO_IMPLICIT, SUBMIT_FENCE_FD_IN, SUBMIT_FENCE_FD_OUT, SUBMIT_SOFTPIN = 1, 2, 4, 8
WAIT_NONBLOCK = 1

SOFTPIN_START = 0x400000
"""First address that user space may give to a buffer."""
SOFTPIN_END = 0xFFFFFFFF
"""Mesa gives addresses from here downward."""
PIPES_MAX = 4
EXEC_STATES = 3
"""0 3D, 1 2D, 2 VG."""
