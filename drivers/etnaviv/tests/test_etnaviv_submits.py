"""Submits to the fake kernel: addresses, relocations, fences, user memory, counters, time.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem_submit.c, etnaviv_mmu.c, etnaviv_sched.c
"""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from teflon.errors import SimulatorFault
from teflon.ir import interpreter
from teflon_common.drm import GEM_CLOSE, GemClose
from teflon_common.drm_core import PRIME_FD_TO_HANDLE, PRIME_HANDLE_TO_FD, PrimeHandle
from teflon_common.fake_drm import FakeWinsys
from teflon_common.fake_fences import Fence, SyncFile, find_sync_file, open_sync_files
from teflon_etnaviv import chips, states, timing, uapi
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import EtnavivProgram
from teflon_etnaviv.simulator.address_map import AddressMap
from teflon_etnaviv.simulator.files import EtnavivFile
from teflon_etnaviv.simulator.kernel import EtnavivKernel
from tests.etnaviv.client import (
    BASE,
    Loaded,
    Pages,
    Submit,
    ask,
    bo,
    close,
    code,
    compiled,
    graph,
    new,
    node,
    soon,
    view,
    wait_bo,
)

Array = npt.NDArray[Any]
A, B = BASE, BASE + 0x10000


class Held(FakeWinsys):
    """A node whose jobs begin when they are let go."""

    def __init__(self, kernel: EtnavivKernel) -> None:
        super().__init__(kernel)
        self.gate = threading.Event()
        kernel.before_job = self._hold

    def _hold(self, ended: Callable[[], bool]) -> bool:
        while not self.gate.wait(0.01) and not ended():
            continue
        return False


@pytest.fixture
def held() -> Iterator[Held]:
    winsys = Held(EtnavivKernel(chips.chip("a311d")))
    yield winsys
    winsys.gate.set()
    winsys.close()


# checks

RELOC = uapi.SubmitReloc
PMR = uapi.SubmitPmr
MANY = uapi.LISTED_MAX + 1
ONE = [bo(1, A)]
STREAM = bytes(16)


@pytest.mark.parametrize(
    ("submit", "want"),
    [
        (Submit(), ""),
        (Submit(flags=0), ""),
        (Submit(pad=7), ""),
        (Submit(pipe=1, stream_size=3), "ENXIO"),
        (Submit(pipe=4), "EINVAL"),
        (Submit(stream_size=3), "EINVAL"),
        (Submit(exec_state=3), "EINVAL"),
        (Submit(exec_state=2), ""),
        (Submit(flags=16), "EINVAL"),
        (Submit(stream_size=uapi.LISTED_MAX + 4, stream=0), "EINVAL"),
        (Submit(nr_bos=MANY, bos=0), "EINVAL"),
        (Submit(nr_relocs=MANY, relocs=0), "EINVAL"),
        (Submit(nr_pmrs=129, pmrs=0), "EINVAL"),
        (Submit(nr_bos=0xFFFFFFFF, bos=0), "EINVAL"),
        (Submit(nr_bos=1, bos=8), "EFAULT"),
        (Submit(nr_relocs=1, relocs=8), "EFAULT"),
        (Submit(nr_pmrs=1, pmrs=(1 << 64) - 8), "EFAULT"),
        (Submit(stream_size=8, stream=8), "EFAULT"),
        (Submit(bos=8, relocs=8, pmrs=8, stream=8), ""),
        (Submit(ONE), ""),
        (Submit([bo(1, A, 4)]), "EINVAL"),
        (Submit([bo(9, A)]), "EINVAL"),
        (Submit([bo(1, uapi.SOFTPIN_START - 4096)]), "EINVAL"),
        (Submit([bo(1, uapi.SOFTPIN_START)]), ""),
        (Submit([bo(1, A + 1)]), "EINVAL"),
        (Submit([bo(1, 0xFFFFF000)]), ""),
        (Submit([bo(2, 0xFFFFF000)]), "ENOSPC"),
        (Submit([bo(1, 1 << 32)]), "ENOSPC"),
        (Submit([bo(1, (1 << 64) - 4096)]), "ENOSPC"),
        (Submit([bo(1, A), bo(2, A)]), "ENOSPC"),
        (Submit([bo(2, A), bo(1, A + 4096)]), "ENOSPC"),
        (Submit([bo(1, A), bo(2, A + 4096)]), ""),
        (Submit([bo(1, A), bo(1, A)]), "EALREADY"),
        (Submit([bo(1, A), bo(1, B)]), "EINVAL"),
        (Submit([bo(1), bo(1)], flags=0), "EALREADY"),
        (Submit([bo(3, A)]), "EFAULT"),
        (Submit(ONE, [RELOC()], commands=STREAM), "EINVAL"),
        (Submit(ONE, [RELOC()], commands=STREAM, flags=0), ""),
        (Submit(ONE, [RELOC(flags=1)], commands=STREAM, flags=0), "EINVAL"),
        (Submit(ONE, [RELOC(submit_offset=2)], commands=STREAM, flags=0), "EINVAL"),
        (Submit(ONE, [RELOC(submit_offset=16)], commands=STREAM, flags=0), "EINVAL"),
        (Submit(ONE, [RELOC(reloc_idx=1)], commands=STREAM, flags=0), "EINVAL"),
        (Submit(ONE, [RELOC(reloc_offset=4092)], commands=STREAM, flags=0), ""),
        (Submit(ONE, [RELOC(reloc_offset=4093)], commands=STREAM, flags=0), "EINVAL"),
        (Submit(ONE, [RELOC(reloc_offset=1 << 63)], commands=STREAM, flags=0), "EINVAL"),
        (
            Submit(ONE, [RELOC(submit_offset=8), RELOC(submit_offset=4)], commands=STREAM, flags=0),
            "EINVAL",
        ),
        (
            Submit(ONE, [RELOC(submit_offset=8), RELOC(submit_offset=8)], commands=STREAM, flags=0),
            "",
        ),
        (Submit(ONE, samples=[PMR(read_offset=4)]), ""),
        (Submit(ONE, samples=[PMR(read_offset=0)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4092)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4, read_idx=1)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4, flags=4)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4, domain=8)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4, signal=7)]), "EINVAL"),
        (Submit(ONE, samples=[PMR(read_offset=4)], exec_state=2), "EINVAL"),
        (Submit(flags=2, fence_fd=-1), "EINVAL"),
        (Submit(flags=2, fence_fd=0), "EINVAL"),
        (Submit([bo(9, A)], flags=10, fence_fd=-1), "EINVAL"),
    ],
    ids=itertools.count(),
)
def test_errors(submit: Submit, want: str) -> None:
    """Buffer 1 has a page, buffer 2 has two, buffer 3 none."""
    winsys = node()
    assert [new(winsys, size) for size in (4096, 8192, 0)] == [1, 2, 3]
    assert submit.code(winsys) == want
    assert isinstance(winsys.file, EtnavivFile)
    end = time.monotonic() + (0 if want else 10)  # what was accepted holds its buffers until it ran
    while (code := Submit([bo(1, A), bo(2, B)]).code(winsys)) and time.monotonic() < end:
        time.sleep(0.001)
    assert code == "", "a refused submit holds nothing"
    winsys.close()


def test_out_of_two_errors_the_first_check_tells() -> None:
    winsys = node()
    assert new(winsys) == 1
    for submit, want in (
        (Submit([bo(1, A, 4)], stream_size=8, stream=8), "EFAULT"),
        (Submit([bo(1, A), bo(1, A)], [RELOC()], commands=STREAM), "EINVAL"),
        (Submit([bo(1, A), bo(1, A)], samples=[PMR(read_offset=0)]), "EINVAL"),
        (Submit([bo(1, 1 << 32)], samples=[PMR(read_offset=0)]), "ENOSPC"),
    ):
        assert submit.code(winsys) == want


# addresses


def test_an_idle_address_is_given_up_and_a_held_one_is_not(held: Held) -> None:
    first, second = new(held), new(held)
    Submit([bo(first, A)]).send(held)
    assert Submit([bo(first, B)]).code(held) == "EINVAL", "it runs at another address"
    assert Submit([bo(second, A)]).code(held) == "ENOSPC"
    assert code(held, GEM_CLOSE, GemClose(handle=first)) == ""
    assert Submit([bo(second, A)]).code(held) == "ENOSPC", "the job holds what has no handle"
    held.gate.set()
    Submit([bo(second, B)]).send(held)
    wait_bo(held, second, uapi.PREP_WRITE)
    assert Submit([bo(second, A)]).code(held) == "", "idle, it moves"


def test_two_idle_buffers_may_take_turns_at_an_address() -> None:
    winsys = node()
    handles = [new(winsys), new(winsys)]
    for handle in handles * 2:
        Submit([bo(handle, A)]).send(winsys)
        wait_bo(winsys, handle, uapi.PREP_WRITE)


def test_the_kernel_takes_the_lowest_gap_behind_its_commands() -> None:
    winsys = node()
    assert isinstance(winsys.file, EtnavivFile)
    addresses = winsys.file.addresses
    made = [winsys.file.lookup(new(winsys, size)) for size in (4096, 8192, 4096)]
    starts = [addresses.hold(buffer, 0).start for buffer in made]
    assert starts == [0x81000, 0x82000, 0x84000]
    addresses.release(made[1])
    addresses.drop(made[1])
    assert addresses.hold(winsys.file.lookup(new(winsys)), 0).start == 0x82000


def test_idle_mappings_make_room_oldest_first() -> None:
    addresses, winsys = AddressMap(), node(memory_limit=1 << 40)
    size = 0x4000_0000
    made = [winsys.file.lookup(new(winsys, size)) for _ in range(5)]
    for buffer in made[:3]:
        addresses.hold(buffer, 0)
    for buffer in made[1:3]:
        addresses.release(buffer)
    start = addresses.hold(made[3], 0).start
    assert start == 0x81000 + size, "where the older of the two idle ones was"
    assert made[1] not in addresses
    assert made[2] in addresses
    addresses.hold(made[2], 0)
    with pytest.raises(OSError, match="No space"):
        addresses.hold(made[4], 0)


def test_relocations_and_chosen_addresses_give_the_same_result() -> None:
    """The instructions hold addresses too: buffers keep theirs when the kernel may choose."""
    program, x, want = compiled()
    outputs = []
    for relocated in (False, True):
        winsys = node(strict=True)
        loaded = Loaded(winsys, program)
        loaded.store(x)
        if not relocated:
            loaded.send()
        else:
            Submit(loaded.listed()).send(winsys)  # says where they lie
            patches = loaded.relocs()
            stream = bytearray(loaded.stream)
            for patch in patches:
                stream[patch.submit_offset : patch.submit_offset + 4] = b"\xde\xad\xbe\xef"
            listed = [bo(b.handle, 0, b.flags) for b in loaded.listed()]
            Submit(listed, patches, commands=bytes(stream), flags=0).send(winsys)
        outputs.append(loaded.fetch())
        winsys.close()
    assert close(outputs[0], want)
    assert (outputs[0] == outputs[1]).all()


# fences


def test_fences_count_from_0_for_all_files_of_a_core(held: Held) -> None:
    other = FakeWinsys(held.kernel)
    assert [Submit().send(w).fence for w in (held, other, held)] == [0, 1, 2]
    asked = uapi.WaitFence(fence=1, flags=uapi.WAIT_NONBLOCK)
    assert code(held, uapi.WAIT_FENCE, asked) == "EBUSY", "of another file"
    assert code(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=1)) == "ETIMEDOUT"
    assert code(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=3)) == "", "not issued: no wait"
    held.gate.set()
    assert code(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=2, **soon())) == ""
    assert code(held, uapi.WAIT_FENCE, asked) == ""
    other.close()


def test_fence_numbers_wrap_around_what_runs(held: Held) -> None:
    kernel = held.kernel
    assert isinstance(kernel, EtnavivKernel)
    assert Submit().send(held).fence == 0
    kernel.runner.cores[0].next = (1 << 32) - 1
    assert [Submit().send(held).fence for _ in range(2)] == [(1 << 32) - 1, 1]


def test_readers_wait_for_writers_only(held: Held) -> None:
    read, written = new(held), new(held)
    Submit([bo(read, A, 1), bo(written, B, 2)]).send(held)
    nosync, timed = uapi.PREP_NOSYNC, {"sec": 0, "nsec": 0}
    for handle, op, want in (
        (read, uapi.PREP_READ, ""),
        (read, uapi.PREP_READ | nosync, ""),
        (read, uapi.PREP_WRITE, "ETIMEDOUT"),
        (read, uapi.PREP_WRITE | nosync, "EBUSY"),
        (written, uapi.PREP_READ, "ETIMEDOUT"),
        (written, uapi.PREP_READ | nosync, "EBUSY"),
        (written, nosync, "EBUSY"),
    ):
        asked = uapi.GemCpuPrep(handle=handle, op=op, **timed)
        assert code(held, uapi.GEM_CPU_PREP, asked) == want, (handle, op)
    waits = uapi.GemWait(handle=read)
    assert code(held, uapi.GEM_WAIT, waits) == "ETIMEDOUT"
    waits.flags = uapi.WAIT_NONBLOCK
    assert code(held, uapi.GEM_WAIT, waits) == "EBUSY"
    held.gate.set()
    assert code(held, uapi.GEM_WAIT, uapi.GemWait(handle=read, **soon())) == ""
    assert held.kernel.complaints == []


def test_giving_back_what_a_job_still_uses_is_a_complaint(held: Held) -> None:
    """Not where the program has only read what the job only reads."""
    read, written = new(held), new(held)
    Submit([bo(read, A, 1), bo(written, B, 2)]).send(held)
    ask(held, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=read, op=uapi.PREP_READ))
    ask(held, uapi.GEM_CPU_FINI, uapi.GemCpuFini(handle=read))
    assert held.kernel.complaints == []
    for handle in (read, written):
        ask(held, uapi.GEM_CPU_FINI, uapi.GemCpuFini(handle=handle))
    assert len(held.kernel.complaints) == 2


def test_a_wait_ends_when_the_job_does(held: Held) -> None:
    handle = new(held)
    Submit([bo(handle, A)]).send(held)
    threading.Timer(0.1, held.gate.set).start()
    wait_bo(held, handle, uapi.PREP_READ | uapi.PREP_WRITE)


def test_an_out_fence_is_a_sync_file_that_signals(held: Held) -> None:
    assert Submit().send(held).fence_fd == -1
    number = Submit(flags=uapi.SUBMIT_FENCE_FD_OUT).send(held).fence_fd
    assert select.select([number], [], [], 0)[0] == []
    file = find_sync_file(number)
    assert file is not None
    assert (file.status, file.fences[0].driver) == (0, "drm_sched")
    held.gate.set()
    assert select.select([number], [], [], 20)[0] == [number]
    assert file.status == 1
    os.close(number)


def test_a_refused_submit_gives_no_file() -> None:
    winsys, before = node(), open_sync_files()
    asked = Submit([bo(9, A)], flags=uapi.SUBMIT_FENCE_FD_OUT | uapi.SUBMIT_SOFTPIN)
    assert asked.code(winsys) == "EINVAL"
    assert open_sync_files() == before


def test_a_job_waits_for_its_in_fence_and_others_overtake_it() -> None:
    winsys = node()
    other = FakeWinsys(winsys.kernel)
    gate: Any = threading_future()
    number = SyncFile([Fence(gate)]).give()
    Submit(flags=uapi.SUBMIT_FENCE_FD_IN, fence_fd=number).send(winsys)
    Submit().send(winsys)
    assert Submit().send(other).fence == 2
    assert code(other, uapi.WAIT_FENCE, uapi.WaitFence(fence=2, **soon())) == ""
    for fence in (0, 1):
        assert code(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=fence)) == "ETIMEDOUT"
    gate.set_result(None)
    assert code(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=1, **soon())) == ""
    os.close(number)
    other.close()


def threading_future() -> Any:
    from concurrent.futures import Future

    return Future()


def test_a_chain_of_sync_files_runs_in_order() -> None:
    """One file's output is the other's input; the memory is the same by user memory."""
    program, x, want = compiled()
    winsys = node(strict=True)
    loaded = Loaded(winsys, program)
    loaded.store(x)
    first = loaded.send(flags=uapi.SUBMIT_SOFTPIN | uapi.SUBMIT_FENCE_FD_OUT).fence_fd
    flags = uapi.SUBMIT_SOFTPIN | uapi.SUBMIT_FENCE_FD_IN | uapi.SUBMIT_FENCE_FD_OUT
    second = loaded.send(flags=flags | uapi.SUBMIT_NO_IMPLICIT, fence_fd=first).fence_fd
    assert select.select([second], [], [], 20)[0] == [second]
    assert close(loaded.fetch(), want)
    for number in (first, second):
        os.close(number)


def test_closing_a_file_does_not_wait_for_a_fence_that_never_comes() -> None:
    winsys = node()
    handle = new(winsys)
    number = SyncFile([Fence(threading_future())]).give()
    flags = uapi.SUBMIT_SOFTPIN | uapi.SUBMIT_FENCE_FD_IN | uapi.SUBMIT_FENCE_FD_OUT
    out = Submit([bo(handle, A)], flags=flags, fence_fd=number).send(winsys).fence_fd
    buffer = winsys.file.lookup(handle)
    began = time.monotonic()
    winsys.close()
    assert time.monotonic() - began < 10
    file = find_sync_file(out)
    assert file is not None
    assert file.status < 0
    assert buffer.references == 0
    for each in (number, out):
        os.close(each)


def test_a_failed_job_is_told_by_every_wait_and_by_its_sync_file() -> None:
    winsys = node()
    handle = new(winsys)
    bad = Submit([bo(handle, A)], commands=b"\xff" * 8, flags=12).send(winsys)
    with pytest.raises(SimulatorFault, match="is not a known command"):
        ask(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=bad.fence, **soon()))
    with pytest.raises(SimulatorFault, match="is not a known command"):
        wait_bo(winsys, handle)
    file = find_sync_file(bad.fence_fd)
    assert file is not None
    assert file.status < 0
    Submit([bo(handle, A)]).send(winsys)
    wait_bo(winsys, handle)
    os.close(bad.fence_fd)
    winsys.close()
    assert sum("is not a known command" in text for text in winsys.kernel.complaints) == 1


def test_a_stream_for_a_gpu_is_a_fault() -> None:
    winsys = FakeWinsys(EtnavivKernel(chips.chip("a311d"), gpus=(chips.GPU,)))
    fence = Submit(pipe=0).send(winsys).fence
    with pytest.raises(SimulatorFault, match="is no NPU"):
        ask(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=fence, **soon()))
    assert Submit(pipe=1).send(winsys).fence == 0, "each core counts for itself"


def test_jobs_of_a_file_that_is_gone_end_and_release_it(held: Held) -> None:
    """One hangs, one waits behind it, one waits for a sync file: nobody waits for them."""
    other = FakeWinsys(held.kernel)
    handle, number = new(other), SyncFile([Fence(threading_future())]).give()
    buffer = other.file.lookup(handle)
    with_fence: dict[str, Any] = {"flags": 10, "fence_fd": number}
    for fields in ({}, {}, with_fence):
        Submit([bo(handle, A)], **fields).send(other)
    began = time.monotonic()
    held.kernel.abandon(other.file)
    assert time.monotonic() - began < 0.5
    assert buffer.references > 0
    for _ in range(500):
        if other.file.closed:
            break
        time.sleep(0.02)
    assert buffer.references == 0
    held.gate.set()
    assert Submit().code(held) == ""
    assert code(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=3, **soon())) == ""
    os.close(number)


def test_a_hung_job_is_ended_by_the_kernel_in_real_time(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teflon_etnaviv.simulator.runner._LIMIT", 0.1)
    held.kernel.real_time = True
    fence = Submit().send(held).fence
    with pytest.raises(SimulatorFault, match="the job hangs"):
        ask(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=fence, **soon()))
    held.gate.set()
    fence = Submit().send(held).fence
    ask(held, uapi.WAIT_FENCE, uapi.WaitFence(fence=fence, **soon()))


def test_a_shared_buffer_has_an_address_in_each_file(held: Held) -> None:
    """A dma_buf goes from one file to another; a job of one keeps the other waiting."""
    held.kernel.shares_memory = True
    other = FakeWinsys(held.kernel)
    mine = new(held)
    number = ask(held, PRIME_HANDLE_TO_FD, PrimeHandle(handle=mine, flags=2)).fd
    theirs = ask(other, PRIME_FD_TO_HANDLE, PrimeHandle(fd=number)).handle
    Submit([bo(mine, A)]).send(held)
    Submit([bo(theirs, B)]).send(other)
    for winsys, handle in ((held, mine), (other, theirs)):
        asked = uapi.GemCpuPrep(handle=handle, op=uapi.PREP_READ)
        assert code(winsys, uapi.GEM_CPU_PREP, asked) == "ETIMEDOUT"
    held.gate.set()
    for winsys, handle in ((held, mine), (other, theirs)):
        wait_bo(winsys, handle)
    other.close()
    assert Submit([bo(mine, A)]).code(held) == ""
    os.close(number)


# user memory


def test_user_memory_works_like_a_buffer() -> None:
    program, x, want = compiled()
    winsys = node(strict=True)
    ports = (*program.input_ports, *program.output_ports)
    user = {
        port.buffer: Pages(-(-program.buffers[port.buffer].size // 4096) * 4096) for port in ports
    }
    loaded = Loaded(winsys, program, user)
    for turn in (x, 255 - x):
        (want,) = interpreter.run(graph(), [turn])
        loaded.store(turn)
        fence = loaded.send().fence
        ask(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=fence, **soon()))
        (port,) = program.output_ports
        kind = port.type
        found = port.place(loaded.views[port.buffer]).fetch(np.empty(kind.shape, kind.dtype.numpy))
        assert close(found, want), "there after any wait"


def test_memory_that_is_only_read_stays_as_it_is() -> None:
    winsys, pages = node(), Pages(4096)
    asked = uapi.GemUserptr(user_ptr=pages.pointer, user_size=4096, flags=uapi.USERPTR_READ)
    handle = ask(winsys, uapi.GEM_USERPTR, asked).handle
    pages.bytes[:] = 7
    pmr = PMR(read_offset=1, flags=2, sequence=0x55)
    Submit([bo(handle, A)], samples=[pmr]).send(winsys)
    wait_bo(winsys, handle)
    assert (pages.bytes == 7).all()


# counters and time


def _model_ms(program: EtnavivProgram) -> float:
    return sum(cost.total_ms for cost in timing.costs(program) if cost.engine != "host")


def test_counters_tell_what_the_model_of_time_says() -> None:
    program, x, _ = compiled()
    winsys = node(strict=True)
    loaded = Loaded(winsys, program)
    store = new(winsys)
    words = view(winsys, store, 4096).view("<u4")
    listed = [*loaded.listed(), bo(store, B << 4)]
    index = len(listed) - 1
    pmrs = [
        PMR(read_idx=index, read_offset=at, domain=0, signal=signal, flags=flags, sequence=9)
        for at, signal, flags in ((1, 0, 1), (2, 0, 2), (3, 1, 2), (4, 2, 1), (5, 2, 2), (6, 0, 3))
    ]
    words[:] = 0xFFFF
    for turn in (1, 2):
        loaded.store(x)
        Submit(listed, samples=pmrs, commands=loaded.stream).send(winsys)
        wait_bo(winsys, store)
        costs = [cost for cost in timing.costs(program) if cost.engine != "host"]
        read = sum(cost.dram_read // 8 for cost in costs)
        written = sum(cost.dram_written // 8 for cost in costs)
        cycles = round(_model_ms(program) * 800e3)
        assert words[0] == 9
        assert words[1:4].tolist() == [(turn - 1) * read, turn * read, turn * written]
        assert words[4:6].tolist() == [(turn - 1) * cycles, turn * cycles]
        assert words[6] == 0xFFFF, "neither before nor after"


def test_a_counter_behind_the_buffer_is_a_complaint() -> None:
    """The kernel takes the offset for words when it stores, for bytes when it checks."""
    winsys = node()
    handle = new(winsys)
    Submit([bo(handle, A)], samples=[PMR(read_offset=1024, flags=1)]).send(winsys)
    wait_bo(winsys, handle)
    assert "stored at word 1024" in winsys.kernel.complaints[0]


def test_in_real_time_a_job_takes_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    program, x, want = compiled()
    slept: list[float] = []
    monkeypatch.setattr("teflon_etnaviv.simulator.runner.time.sleep", slept.append)
    monkeypatch.setattr("teflon_etnaviv.simulator.runner.time.monotonic", lambda: 100.0)
    winsys = node(strict=True)
    winsys.kernel.real_time = True
    loaded = Loaded(winsys, program)
    loaded.store(x)
    loaded.send()
    assert close(loaded.fetch(), want)
    assert slept[0] == 0, "the first stream starts no unit"
    assert slept[1:] == [pytest.approx(_model_ms(program) / 1e3, rel=1e-6)]


@pytest.mark.parametrize("chip", ["a311d", "s905d3", "imx8mp"])
def test_the_simulator_and_the_estimate_agree_about_time(chip: str) -> None:
    program = EtnavivDevice(chip).compile(graph(20))
    winsys = FakeWinsys(EtnavivKernel(chips.chip(chip)))
    kernel = winsys.kernel
    assert isinstance(kernel, EtnavivKernel)
    loaded = Loaded(winsys, program)
    loaded.send()
    loaded.fetch()
    assert kernel.runner.cores[0].busy_ms == pytest.approx(_model_ms(program), rel=0.02)


def test_streams_may_wait_for_units() -> None:
    """As drivers of GPUs do it: a semaphore, a STALL; and NOPs."""
    wait = [states.header(0x3808), 0x701, 9 << 27, 0x701, 3 << 27, 0xFFFFFFFF]
    program, x, want = compiled()
    winsys = node(strict=True)
    loaded = Loaded(winsys, program)
    loaded.store(x)
    words = struct.pack("<6I", *wait)
    Submit(loaded.listed(), commands=words + loaded.stream + words).send(winsys)
    assert close(loaded.fetch(), want)
    Submit([bo(loaded.handles[0], loaded.addresses[0])], commands=words[:-4]).send(winsys)
    with pytest.raises(SimulatorFault, match="is not a known command"):
        wait_bo(winsys, loaded.handles[0])


def test_what_a_submit_points_to_is_read_at_once() -> None:
    winsys = node(strict=True)
    program, x, want = compiled()
    loaded = Loaded(winsys, program)
    loaded.store(x)
    submit = loaded.submit()
    submit.send(winsys)
    ctypes.memset(submit.argument.stream, 0xFF, submit.argument.stream_size)
    assert close(loaded.fetch(), want)
