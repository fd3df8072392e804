"""The kernel interface of the etnaviv driver: requests, structs, parameters, flags."""

from __future__ import annotations

from teflon_common.drm import GEM_CLOSE, VERSION
from teflon_common.structs import Ioctl, Struct, Uapi, address, s32, s64, text, u8, u16, u32, u64

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


class SubmitReloc(Struct, size=24):
    """drm_etnaviv_gem_submit_reloc: a word of the stream that gets an address.

    The word at byte `submit_offset` := address of entry `reloc_idx` of the list + `reloc_offset`.
    """

    submit_offset: int = u32()
    reloc_idx: int = u32()
    reloc_offset: int = u64()
    flags: int = u32()
    tail: int = u32()


class SubmitPmr(Struct, size=20):
    """drm_etnaviv_gem_submit_pmr: a counter that is read before or after the job.

    It is stored at word `read_offset` of entry `read_idx` of the list.
    """

    flags: int = u32()
    domain: int = u8()
    pad: int = u8()
    signal: int = u16()
    sequence: int = u32()
    read_offset: int = u32()
    read_idx: int = u32()


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


class GemUserptr(Struct, size=24):
    """drm_etnaviv_gem_userptr: a buffer that is memory of the caller."""

    user_ptr: int = address()
    user_size: int = u64()
    flags: int = u32()
    handle: int = u32()  # out


class GemWait(Struct, size=32):
    """drm_etnaviv_gem_wait: wait until no job uses a buffer; absolute monotonic time."""

    pipe: int = u32()
    handle: int = u32()
    flags: int = u32()
    pad: int = u32()
    sec: int = s64()
    nsec: int = s64()


class PmDomain(Struct, size=72):
    """drm_etnaviv_pm_domain: the `iter`-th group of counters of a core."""

    pipe: int = u32()
    iter: int = u8()  # out: the next one, 0xff after the last
    id: int = u8()  # out
    nr_signals: int = u16()  # out
    name: bytes = text(64)  # out


class PmSignal(Struct, size=76):
    """drm_etnaviv_pm_signal: the `iter`-th counter of a group."""

    pipe: int = u32()
    domain: int = u8()
    pad: int = u8()
    iter: int = u16()  # out: the next one, 0xffff after the last
    id: int = u16()  # out
    name: bytes = text(64)  # out
    tail: int = u16()


GET_PARAM = Ioctl("GET_PARAM", "wr", 0x40, GetParam)
GEM_NEW = Ioctl("GEM_NEW", "wr", 0x42, GemNew)
GEM_INFO = Ioctl("GEM_INFO", "wr", 0x43, GemInfo)
GEM_CPU_PREP = Ioctl("GEM_CPU_PREP", "w", 0x44, GemCpuPrep)
GEM_CPU_FINI = Ioctl("GEM_CPU_FINI", "w", 0x45, GemCpuFini)
GEM_SUBMIT = Ioctl("GEM_SUBMIT", "wr", 0x46, Submit)
WAIT_FENCE = Ioctl("WAIT_FENCE", "w", 0x47, WaitFence)
GEM_USERPTR = Ioctl("GEM_USERPTR", "wr", 0x48, GemUserptr)
GEM_WAIT = Ioctl("GEM_WAIT", "w", 0x49, GemWait)
PM_QUERY_DOM = Ioctl("PM_QUERY_DOM", "wr", 0x4A, PmDomain)
PM_QUERY_SIG = Ioctl("PM_QUERY_SIG", "wr", 0x4B, PmSignal)

ETNAVIV = Uapi(
    "etnaviv",
    (
        VERSION, GEM_CLOSE, GET_PARAM, GEM_NEW, GEM_INFO, GEM_CPU_PREP, GEM_CPU_FINI, GEM_SUBMIT,
        WAIT_FENCE, GEM_USERPTR, GEM_WAIT, PM_QUERY_DOM, PM_QUERY_SIG,
    ),
)  # fmt: skip

DRM_VERSION = (1, 4, 0)
"""Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_drv.c (etnaviv_drm_driver; no patchlevel is set)"""

PARAM_MODEL, PARAM_REVISION = 0x01, 0x02
PARAM_FEATURES_0 = 0x03
"""The first of thirteen words of features."""
PARAM_STREAM_COUNT, PARAM_REGISTER_MAX, PARAM_THREAD_COUNT = 0x10, 0x11, 0x12
PARAM_VERTEX_CACHE_SIZE, PARAM_SHADER_CORE_COUNT, PARAM_PIXEL_PIPES = 0x13, 0x14, 0x15
PARAM_VERTEX_OUTPUT_BUFFER_SIZE, PARAM_BUFFER_SIZE, PARAM_INSTRUCTION_COUNT = 0x16, 0x17, 0x18
PARAM_NUM_CONSTANTS, PARAM_NUM_VARYINGS = 0x19, 0x1A
PARAM_SOFTPIN_START = 0x1B
PARAM_PRODUCT, PARAM_CUSTOMER, PARAM_ECO = 0x1C, 0x1D, 0x1E

BO_CACHED, BO_WRITE_COMBINE, BO_UNCACHED, BO_FORCE_MMU = 0x10000, 0x20000, 0x40000, 0x100000
BO_CACHE_MASK = 0xF0000
PREP_READ, PREP_WRITE, PREP_NOSYNC = 1, 2, 4
SUBMIT_BO_READ, SUBMIT_BO_WRITE = 1, 2
SUBMIT_NO_IMPLICIT, SUBMIT_FENCE_FD_IN, SUBMIT_FENCE_FD_OUT, SUBMIT_SOFTPIN = 1, 2, 4, 8
WAIT_NONBLOCK = 1
USERPTR_READ, USERPTR_WRITE = 1, 2
PM_PROCESS_PRE, PM_PROCESS_POST = 1, 2

SOFTPIN_START = 0x400000
"""First address that user space may give to a buffer."""
SOFTPIN_END = 0xFFFFFFFF
"""Mesa gives addresses from here downward."""
PIPES_MAX = 4
EXEC_STATES = 3
"""0 3D, 1 2D, 2 VG."""
LISTED_MAX = 128 << 10
"""Bytes of a stream, buffers and relocations of a submit.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem_submit.c (etnaviv_ioctl_gem_submit)
"""
PMRS_MAX = 128

SPACE_START, SPACE_END = 0x1000, 1 << 32
"""Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_iommu_v2.c (etnaviv_iommuv2_context_alloc)"""
COMMANDS_BYTES = 512 << 10
"""The kernel's own command buffers, which it maps first.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_cmdbuf.c (SUBALLOC_SIZE)
"""
