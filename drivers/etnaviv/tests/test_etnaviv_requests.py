"""What the fake kernel answers to each request, on all errors too, as Linux does.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_drv.c, etnaviv_gem.c, etnaviv_gpu.c, etnaviv_perfmon.c
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon_common.drm import GEM_CLOSE, VERSION, GemClose, Version
from teflon_common.fake_drm import FakeWinsys
from teflon_common.structs import Ioctl, Struct
from teflon_etnaviv import chips, counters, parameters, uapi
from teflon_etnaviv.chips import CHIPS, GPU, Identity
from teflon_etnaviv.simulator.kernel import EtnavivKernel
from tests.etnaviv.client import Pages, ask, code, new, node, soon

A311D = chips.chip("a311d").identities[0]
IDENTITIES = sorted({i for chip in CHIPS for i in chip.identities} | {GPU}, key=str)
WC = uapi.BO_WRITE_COMBINE
NONE = 77
"""A handle that no test makes."""


def param(identity: Identity, number: int) -> int:
    winsys = FakeWinsys(EtnavivKernel(chips.CHIPS[0], cores=(identity,)))
    return ask(winsys, uapi.GET_PARAM, uapi.GetParam(param=number)).value


@pytest.mark.parametrize("identity", IDENTITIES, ids=str)
def test_every_parameter_of_every_core(identity: Identity) -> None:
    winsys = FakeWinsys(EtnavivKernel(chips.CHIPS[0], cores=(GPU, identity)))
    own = (identity.model, identity.revision, identity.product, identity.customer, identity.eco)
    found = {
        number: ask(winsys, uapi.GET_PARAM, uapi.GetParam(pipe=1, param=number)).value
        for number in range(0x01, 0x1F)
    }
    assert tuple(found[n] for n in (0x01, 0x02, 0x1C, 0x1D, 0x1E)) == own
    assert found[0x1B] == 0x400000
    assert found[0x17] == 0, "no core has a size of its command buffer"
    assert all(found[n] for n in (*range(0x03, 0x17), *range(0x18, 0x1B)))
    for number in (0x00, 0x1F, 0x20, 0xFFFFFFFF):
        assert code(winsys, uapi.GET_PARAM, uapi.GetParam(pipe=1, param=number)) == "EINVAL"


def test_numbers_of_cores_that_linux_knows() -> None:
    """Read off etnaviv_hwdb.c by hand."""
    assert [param(A311D, n) for n in (0x03, 0x04, 0x0F)] == [0xE0287CAC, 0xC1799EFF, 0x10]
    assert [param(A311D, n) for n in range(0x10, 0x1B)] == [
        8, 64, 256, 16, 1, 1, 1024, 0, 512, 320, 16,
    ]  # fmt: skip
    assert [param(GPU, n) for n in (0x03, 0x09, 0x0A, 0x10, 0x12, 0x14)] == [
        0xE0287C8D, 0x3B5AC333, 0xFCCE6000, 16, 512, 2,
    ]  # fmt: skip
    known = {i for i in IDENTITIES if not parameters.core(i).assumed}
    assert {hex(i.revision) for i in known} == {"0x7120", "0x8002", "0x6204", "0x6205"}


def test_the_version() -> None:
    text = ctypes.create_string_buffer(64)
    version = Version(name_len=3, name=ctypes.addressof(text))
    found = ask(node(), VERSION, version)
    numbers = (found.version_major, found.version_minor, found.version_patchlevel)
    assert numbers == (1, 4, 0)
    assert (text.value, found.name_len, found.desc_len) == (b"etn", 7, len("etnaviv DRM"))


PREP, FINI, WAIT, FENCE = (uapi.GemCpuPrep, uapi.GemCpuFini, uapi.GemWait, uapi.WaitFence)
DOM, SIG, USER = uapi.PmDomain, uapi.PmSignal, uapi.GemUserptr
ERRORS: list[tuple[Ioctl, Struct, str]] = [
    (uapi.GET_PARAM, uapi.GetParam(pipe=1, param=1), "ENXIO"),
    (uapi.GET_PARAM, uapi.GetParam(pipe=4, param=1), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096, flags=WC | uapi.BO_CACHED), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096, flags=WC | 0x80000), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096, flags=WC | 1), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096, flags=uapi.BO_FORCE_MMU), "EINVAL"),
    (uapi.GEM_NEW, uapi.GemNew(size=4096, flags=WC | uapi.BO_FORCE_MMU), ""),
    (uapi.GEM_NEW, uapi.GemNew(size=0xFFFFE000, flags=WC), "ENOMEM"),
    (uapi.GEM_NEW, uapi.GemNew(size=1 << 32 | 4096, flags=WC), ""),
    (uapi.GEM_INFO, uapi.GemInfo(handle=NONE), "ENOENT"),
    (uapi.GEM_INFO, uapi.GemInfo(handle=1, pad=1), "EINVAL"),
    (uapi.GEM_CPU_PREP, PREP(handle=1, op=8), "EINVAL"),
    (uapi.GEM_CPU_PREP, PREP(handle=NONE), "ENOENT"),
    (uapi.GEM_CPU_PREP, PREP(handle=1, op=0), ""),
    (uapi.GEM_CPU_PREP, PREP(handle=1, op=7, sec=-5, nsec=-1), ""),
    (uapi.GEM_CPU_FINI, FINI(handle=1, flags=1), "EINVAL"),
    (uapi.GEM_CPU_FINI, FINI(handle=NONE), "ENOENT"),
    (uapi.GEM_CPU_FINI, FINI(handle=1), ""),
    (uapi.WAIT_FENCE, FENCE(flags=2, pipe=9), "EINVAL"),
    (uapi.WAIT_FENCE, FENCE(pipe=4), "EINVAL"),
    (uapi.WAIT_FENCE, FENCE(pipe=1), "ENXIO"),
    (uapi.WAIT_FENCE, FENCE(fence=12345), ""),
    (uapi.WAIT_FENCE, FENCE(fence=12345, flags=1), ""),
    (uapi.GEM_WAIT, WAIT(handle=1, flags=2), "EINVAL"),
    (uapi.GEM_WAIT, WAIT(handle=NONE, pipe=4), "EINVAL"),
    (uapi.GEM_WAIT, WAIT(handle=NONE, pipe=3), "ENXIO"),
    (uapi.GEM_WAIT, WAIT(handle=NONE), "ENOENT"),
    (uapi.GEM_WAIT, WAIT(handle=1), ""),
    (uapi.GEM_WAIT, WAIT(handle=1, flags=1), ""),
    (uapi.GEM_USERPTR, USER(user_ptr=4096, user_size=4096), "EINVAL"),
    (uapi.GEM_USERPTR, USER(user_ptr=4096, user_size=4096, flags=4), "EINVAL"),
    (uapi.GEM_USERPTR, USER(user_ptr=4097, user_size=4096, flags=1), "EINVAL"),
    (uapi.GEM_USERPTR, USER(user_ptr=4096, user_size=100, flags=1), "EINVAL"),
    (uapi.GEM_USERPTR, USER(user_ptr=4096, user_size=1 << 32, flags=1), "EINVAL"),
    (uapi.GEM_USERPTR, USER(user_ptr=1 << 63, user_size=4096, flags=1), "EFAULT"),
    (uapi.GEM_USERPTR, USER(user_ptr=4096, user_size=4096, flags=3), ""),
    (uapi.PM_QUERY_DOM, DOM(pipe=4), "EINVAL"),
    (uapi.PM_QUERY_DOM, DOM(pipe=1), "ENXIO"),
    (uapi.PM_QUERY_DOM, DOM(iter=8), "EINVAL"),
    (uapi.PM_QUERY_DOM, DOM(iter=255), "EINVAL"),
    (uapi.PM_QUERY_SIG, SIG(pipe=4), "EINVAL"),
    (uapi.PM_QUERY_SIG, SIG(pipe=2), "ENXIO"),
    (uapi.PM_QUERY_SIG, SIG(domain=8), "EINVAL"),
    (uapi.PM_QUERY_SIG, SIG(iter=7), "EINVAL"),
    (GEM_CLOSE, GemClose(handle=NONE), "EINVAL"),
]


@pytest.mark.parametrize(("ioctl", "argument", "want"), ERRORS, ids=lambda v: str(v)[:60])
def test_errors(ioctl: Ioctl, argument: Struct, want: str) -> None:
    winsys = node(memory_limit=1 << 30)
    assert new(winsys) == 1
    assert code(winsys, ioctl, argument) == want


def test_unknown_requests() -> None:
    winsys = node()
    for number in (0x41, 0x4C, 0x9F):
        with pytest.raises(OSError, match="Invalid argument"):
            winsys.ioctl(0xC0106400 | number, bytearray(16))
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        winsys.ioctl(0xC0104100, bytearray(16))


@pytest.mark.parametrize("size", [0, 1 << 32, 0xFFFFF001, (7 << 32) - 1])
def test_a_buffer_of_size_0_has_a_handle_but_no_pages(size: int) -> None:
    """The kernel keeps 32 bits of a size, and rounds in them."""
    winsys = node()
    handle = new(winsys, size)
    assert code(winsys, uapi.GEM_INFO, uapi.GemInfo(handle=handle)) == "ENOSPC"
    assert code(winsys, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=handle)) == "EFAULT"
    assert code(winsys, GEM_CLOSE, GemClose(handle=handle)) == ""


def test_handles_belong_to_a_file() -> None:
    kernel = EtnavivKernel(chips.chip("a311d"))
    one, other = FakeWinsys(kernel), FakeWinsys(kernel)
    handle = new(one)
    assert code(other, uapi.GEM_INFO, uapi.GemInfo(handle=handle)) == "ENOENT"
    assert new(other) == handle, "each file counts for itself"
    other.close()
    assert code(one, uapi.GEM_INFO, uapi.GemInfo(handle=handle)) == ""


def test_a_cached_buffer_wants_a_prep_before_a_fini() -> None:
    winsys = node()
    for flags, complaints in ((WC, 0), (uapi.BO_CACHED, 1)):
        handle = new(winsys, flags=flags)
        ask(winsys, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=handle, op=1, **soon()))
        for _ in range(2):
            ask(winsys, uapi.GEM_CPU_FINI, uapi.GemCpuFini(handle=handle))
        assert len(winsys.kernel.complaints) == complaints
    assert "without a GEM_CPU_PREP" in winsys.kernel.complaints[0]


def test_user_memory_cannot_be_mapped() -> None:
    winsys, pages = node(), Pages(4096)
    asked = uapi.GemUserptr(user_ptr=pages.pointer, user_size=4096, flags=3)
    handle = ask(winsys, uapi.GEM_USERPTR, asked).handle
    offset = ask(winsys, uapi.GEM_INFO, uapi.GemInfo(handle=handle)).offset
    with pytest.raises(OSError, match="Invalid argument"):
        winsys.mmap(offset, 4096)
    assert code(winsys, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=handle)) == ""


def test_user_memory_is_looked_for_when_it_is_used() -> None:
    winsys = node()
    asked = uapi.GemUserptr(user_ptr=4096, user_size=4096, flags=1)
    handle = ask(winsys, uapi.GEM_USERPTR, asked).handle
    assert code(winsys, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=handle)) == "EFAULT"


def _walked(winsys: FakeWinsys) -> dict[str, list[str]]:
    """Return domains and signals as a program finds them, by `iter`."""
    found: dict[str, list[str]] = {}
    domain = uapi.PmDomain()
    while domain.iter != 0xFF:
        domain = ask(winsys, uapi.PM_QUERY_DOM, domain)
        names = found[domain.name.rstrip(b"\0").decode()] = []
        signal = uapi.PmSignal(domain=domain.id)
        while signal.iter != 0xFFFF:
            signal = ask(winsys, uapi.PM_QUERY_SIG, signal)
            assert signal.id == len(names)
            names.append(signal.name.rstrip(b"\0").decode())
        assert len(names) == domain.nr_signals
    return found


def test_counters_are_found_as_programs_look_for_them() -> None:
    found = _walked(node())
    assert {name: len(signals) for name, signals in found.items()} == {
        "HI": 7, "PE": 4, "SH": 9, "PA": 6, "SE": 2, "RA": 7, "TX": 9, "MC": 3,
    }  # fmt: skip
    assert found["HI"][:4] == [
        "TOTAL_READ_BYTES8", "TOTAL_WRITE_BYTES8", "TOTAL_CYCLES", "IDLE_CYCLES",
    ]  # fmt: skip
    assert counters.find(1, 0, 0) == "PIXELS_RENDERED_2D", "whatever units the core has"
    assert counters.find(2, 0, 0) is None


SIZES: dict[str, Any] = {i.name: i for i in uapi.ETNAVIV.ioctls.values()}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SIZES)), st.binary(min_size=80, max_size=80)),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=120)
def test_random_bytes_get_an_errno(requests: list[tuple[str, bytes]]) -> None:
    """Nothing but OSError, and nothing waits: random deadlines are past, or nothing is to do."""
    winsys = node(memory_limit=1 << 22)
    for name, raw in requests:
        ioctl = SIZES[name]
        code(winsys, ioctl, ioctl.struct.unpack(raw))
    winsys.close()


SMALL = st.integers(0, 5) | st.sampled_from([255, 4096, 0x400000, 1 << 20, (1 << 32) - 1])


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_values_that_nearly_fit_get_an_errno(data: st.DataObject) -> None:
    """Small numbers pass more checks than random ones do; no pointer leads anywhere."""
    winsys = node(memory_limit=1 << 22)
    for handle in (new(winsys), new(winsys, 8192, uapi.BO_CACHED)):
        assert handle
    for _ in range(data.draw(st.integers(1, 8))):
        ioctl = SIZES[data.draw(st.sampled_from(sorted(SIZES)))]
        argument = ioctl.struct()
        for field in ioctl.struct.fields:
            if isinstance(field.default, int):
                limit = (1 << 8 * field.size - field.code.islower()) - 1
                setattr(argument, field.name, min(data.draw(SMALL), limit))
        code(winsys, ioctl, argument)
    winsys.close()
