"""The fake rocket kernel for other programs: shared buffers, real time, hung jobs, closed files."""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.board.faults import Faults
from teflon.errors import SimulatorFault
from teflon_common import drm_core as core
from teflon_common.caller import OwnProcess
from teflon_common.drm import GEM_CLOSE, VERSION, GemClose, Version
from teflon_common.fake_files import (
    DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
    DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
    SYNC_IOC_FILE_INFO,
    file_ioctl,
)
from teflon_common.memory import DeviceMemory
from teflon_common.served import ServedKernel
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import RocketDriver, uapi
from teflon_rocket.chips import RK3588
from teflon_rocket.dialect import RocketDialect
from teflon_rocket.simulator.clock import Work
from teflon_rocket.simulator.jobs import RocketFile, TaskRunner
from teflon_rocket.simulator.kernel import RocketKernel
from teflon_rocket.simulator.machine import Machine as Simulated
from teflon_rocket.simulator.policy import LENIENT, STRICT
from teflon_rocket.uapi import FOREVER, JobLists


class Machine(TaskRunner):
    """Runs nothing; a test may hold it, or let it fail."""

    def __init__(self, memory: DeviceMemory) -> None:
        self.ran: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.error: SimulatorFault | None = None
        self.cycles = 0

    def work(self, regcmd_address: int, count: int) -> Work:
        return Work(cycles=self.cycles)

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        assert self.go.wait(10)
        self.ran.append(where)
        if self.error is not None:
            raise self.error


class Remembering(OwnProcess):
    """This process, which remembers the descriptors that it got."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.alive = True

    def give(self, descriptor: int, stays: bool = False) -> int:
        self.given.append(super().give(descriptor))
        return self.given[-1]

    def waits(self) -> bool:
        return self.alive


class Board:
    """A served kernel."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self.kernel = RocketKernel(RK3588, machine=self._machine)
        self.served = ServedKernel(self.kernel, RocketDialect, RK3588.name)
        self.caller = Remembering()

    def _machine(self, memory: DeviceMemory) -> TaskRunner:
        self.machines.append(Machine(memory))
        return self.machines[-1]

    def open(self, record: bool = False) -> Program:
        return Program(self, record)

    def idle(self) -> None:
        """Wait until nothing is left of any open file."""
        until(lambda: not self.kernel._offsets)

    def close(self) -> None:
        for machine in self.machines:
            machine.go.set()
        for number in self.caller.given:
            os.close(number)


class Program:
    """An open file, and the buffers of a job."""

    def __init__(self, board: Board, record: bool = False) -> None:
        self.board, self.file = board, board.served.open(record)
        self.machine = board.machines[-1]
        self.commands, self.input, self.output = (self.create() for _ in range(3))

    def send(self, ioctl: Ioctl, argument: Struct) -> Any:
        data = bytearray(argument.pack())
        self.file.ioctl(ioctl.request, data, self.board.caller)
        return ioctl.struct.unpack(data)

    def create(self) -> uapi.CreateBo:
        made = self.send(uapi.CREATE_BO, uapi.CreateBo(size=4096))
        assert isinstance(made, uapi.CreateBo)
        return made

    def submit(self, read: int = 0, write: int = 0) -> None:
        tasks = ((self.commands.dma_address, 8),)
        job = JobLists(tasks, (read or self.input.handle,), (write or self.output.handle,))
        self.send(uapi.SUBMIT, (made := uapi.submit_arguments([job])).submit)
        del made

    def prep(self, handle: int = 0, seconds: float | None = None) -> str:
        end = FOREVER if seconds is None else time.monotonic_ns() + int(seconds * 1e9)
        argument = uapi.PrepBo(handle=handle or self.output.handle, timeout_ns=end)
        try:
            self.send(uapi.PREP_BO, argument)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "0"

    def export(self, handle: int) -> int:
        argument = core.PrimeHandle(handle=handle, flags=core.RDWR)
        return int(self.send(core.PRIME_HANDLE_TO_FD, argument).fd)

    def take(self, fd: int) -> int:
        return int(self.send(core.PRIME_FD_TO_HANDLE, core.PrimeHandle(fd=fd)).handle)


def until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.close()


def sync_file(fd: int, flags: int) -> int:
    data = bytearray(struct.pack("<Ii", flags, -1))
    file_ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, data)
    return int(struct.unpack("<Ii", data)[1])


def info(number: int) -> tuple[int, str, str]:
    """Return status, driver and timeline of a sync file of one fence."""
    room = ctypes.create_string_buffer(80)
    data = bytearray(struct.pack("<32siIIIQ", b"", 0, 0, 1, 0, ctypes.addressof(room)))
    file_ioctl(number, SYNC_IOC_FILE_INFO, data)
    timeline, driver, status, _, _ = struct.unpack("<32s32siIQ", room)
    return status, driver.rstrip(b"\0").decode(), timeline.rstrip(b"\0").decode()


def test_it_says_what_the_sources_say(board: Board) -> None:
    answer = board.open().send(VERSION, Version())
    assert (answer.version_major, answer.version_minor, answer.version_patchlevel) == (0, 0, 0)


def test_a_shared_buffer_is_waited_for(board: Board) -> None:
    writer, reader = board.open(), board.open()
    fd = writer.export(writer.output.handle)
    there = reader.take(fd)
    assert board.kernel.complaints == [
        "PRIME_FD_TO_HANDLE: the buffer is another open file's, whose jobs alone can use it"
        f" (#{writer.output.dma_address:x} is not mapped in this file's address space)"
    ]
    writer.machine.go.clear()
    writer.submit()
    reader.submit(read=there)
    assert reader.prep(there, 0) == reader.prep(seconds=0.05).replace("ETIMEDOUT", "EBUSY")
    assert reader.machine.ran == []
    writer.machine.go.set()
    assert reader.prep() == reader.prep(there) == "0"
    assert reader.machine.ran == ["submit 0 job 0 task 0"]


def test_a_dma_buf_carries_fences_in_and_out(board: Board) -> None:
    one, two = board.open(), board.open()
    one.machine.go.clear()
    fd = one.export(one.output.handle)
    one.submit()
    done = sync_file(fd, 1)
    board.caller.given.append(done)
    assert info(done) == (0, "drm_sched", "fdab0000.npu")
    other = two.export(two.input.handle)  # `two` shall wait before it reads its input
    file_ioctl(other, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, bytearray(struct.pack("<Ii", 2, done)))
    two.submit()
    assert two.prep(seconds=0.05) == "ETIMEDOUT"
    assert two.prep(two.input.handle, 0) == "EBUSY"
    assert not select.select([done], [], [], 0)[0]
    one.machine.go.set()
    assert two.prep() == two.prep(two.input.handle, 0) == "0"
    assert select.select([done], [], [], 10)[0]
    assert info(done)[0] == 1


def test_a_failed_job_cancels_its_fence(board: Board) -> None:
    program = board.open()
    program.machine.error = SimulatorFault("CNA: bad")
    fd = program.export(program.output.handle)
    program.machine.go.clear()
    program.submit()
    board.caller.given.append(done := sync_file(fd, 1))
    program.machine.go.set()
    assert program.prep() == "0"  # as on silicon: the wait just ends
    until(lambda: info(done)[0] != 0)
    assert info(done)[0] == -errno.ECANCELED
    assert board.kernel.complaints == ["CNA: bad"]


def test_a_recording_has_the_wait_that_meets_a_fault(board: Board) -> None:
    program = board.open(record=True)
    program.machine.error = SimulatorFault("CNA: bad")
    program.submit()
    assert program.prep() == "0"
    data = program.file.recording()
    assert data is not None
    with np.load(io.BytesIO(data)) as arrays:
        log = json.loads(arrays["meta"].tobytes())["log"]
    assert [entry["ioctl"] for entry in log][-2:] == ["SUBMIT", "PREP_BO"]
    assert board.kernel.complaints == ["CNA: bad"]


def test_a_virtual_board_goes_on_where_silicon_does() -> None:
    """What a program does against the rules of the hardware ends no job, unlike with `sim:`."""
    node = RocketDriver("rocket", "", ("rk3588",)).virtual_node("rk3588")
    assert isinstance(node.kernel, ServedKernel)
    for kernel, policy in ((node.kernel.fake, LENIENT), (RocketKernel(RK3588), STRICT)):
        file = kernel.open()
        assert isinstance(file, RocketFile)
        assert isinstance(file.machine, Simulated)
        assert file.machine.policy == policy


def test_in_real_time_a_job_takes_its_modelled_time(board: Board) -> None:
    program = board.open()
    program.machine.cycles = int(RK3588.clock_hz * 0.06)
    start = time.monotonic()
    program.submit()
    assert program.prep() == "0"
    quick = time.monotonic() - start
    board.served.real_time = True
    start = time.monotonic()
    program.submit()
    run = board.kernel.schedule().runs[-1]
    modelled = (run.end - run.start) / 1000
    assert 0.02 < modelled < 0.4
    assert program.prep(seconds=modelled / 2) == "ETIMEDOUT"
    assert program.prep() == "0"
    assert time.monotonic() - start >= modelled
    assert quick < modelled
    assert board.kernel.complaints == []


@pytest.mark.parametrize("rule", ["JOB:1:HANG", "JOB:1:+5"])
def test_in_real_time_a_hung_job_ends_by_a_reset(board: Board, rule: str) -> None:
    board.served.real_time = True
    board.served.before_job = Faults([rule]).meet_job
    program = board.open()
    start = time.monotonic()
    program.submit()
    assert program.prep(seconds=0.1) == "ETIMEDOUT"
    assert program.prep() == "0"
    assert 0.5 <= time.monotonic() - start < 2
    assert program.machine.ran == []
    assert board.kernel.complaints == [
        "the job hangs, must end within 500 ms (the kernel ended it and reset the core)"
    ]
    program.submit()
    assert program.prep() == "0"
    assert len(program.machine.ran) == 1


def test_a_hang_lasts_until_there_are_other_rules(board: Board) -> None:
    faults = Faults(["JOB:1:HANG"])
    board.served.before_job = faults.meet_job
    program = board.open()
    program.submit()
    assert program.prep(seconds=0.7) == "ETIMEDOUT"
    faults.set([])
    assert program.prep() == "0"
    assert len(program.machine.ran) == 1


def test_a_file_that_is_closed_in_the_middle_of_a_job(board: Board) -> None:
    program = board.open()
    program.machine.go.clear()
    program.submit()
    program.submit()
    start = time.monotonic()
    program.file.close()
    assert time.monotonic() - start < 0.5
    program.machine.go.set()
    board.idle()
    assert len(program.machine.ran) == 2  # what is in the queue runs for a second more
    assert board.kernel._free_bytes == 4 << 30


def test_a_closed_file_whose_job_hangs_leaves_the_core_to_others(board: Board) -> None:
    faults = Faults(["JOB:1:HANG:3"])
    board.served.before_job = faults.meet_job
    files = [board.open() for _ in range(3)]  # on three cores
    for program in files:
        program.submit()
        program.submit()
    until(lambda: faults._counts["JOB"] == 3)
    for program in files:
        program.file.close()
    after = board.open()
    after.submit()
    assert after.prep(seconds=10) == "0"
    after.file.close()
    board.idle()
    assert sum(len(program.machine.ran) for program in files) == 0


def test_who_was_killed_waits_no_longer(board: Board) -> None:
    program = board.open()
    program.machine.go.clear()
    program.submit()
    board.caller.alive = False
    assert program.prep() == "EINTR"


def test_a_stopped_program_stops_no_other(board: Board) -> None:
    stopped, other = board.open(), board.open()
    held, go = threading.Event(), threading.Event()

    class Stopped(Remembering):
        def read(self, pointer: int, size: int) -> bytes:
            held.set()
            assert go.wait(20)
            return super().read(pointer, size)

    made = uapi.submit_arguments([JobLists(((stopped.commands.dma_address, 8),), (), ())])
    data = bytearray(made.submit.pack())
    sending = threading.Thread(
        target=lambda: stopped.file.ioctl(uapi.SUBMIT.request, data, Stopped())
    )
    sending.start()
    assert held.wait(20)
    other.submit()
    assert other.prep(seconds=10) == "0"
    go.set()
    sending.join()
    until(lambda: len(stopped.machine.ran) == 1)


def test_closing_a_buffer_that_another_file_has(board: Board) -> None:
    maker, other = board.open(), board.open()
    there = other.take(maker.export(maker.output.handle))
    maker.file.close()
    until(lambda: len(board.kernel._offsets) == 4)
    other.file.memory(maker.output.offset, 4096)
    other.send(GEM_CLOSE, GemClose(handle=there))
    assert board.kernel.complaints[1:] == [
        "a buffer of a closed file is freed by another one, must be freed before the close (the"
        " real kernel uses the closed file's freed data)"
    ]
    other.file.close()
    board.idle()


def test_lists_that_are_too_long_are_dropped(board: Board) -> None:
    program = board.open()
    at = program.commands.dma_address
    for changes in ({"task_count": 1 << 27}, {"in_bo_handle_count": 1 << 28}):
        task = struct.pack("<II", at, 8)
        room = ctypes.create_string_buffer(task, 8)
        job = uapi.Job(tasks=ctypes.addressof(room), task_count=1, in_bo_handles=8)
        for name, value in changes.items():
            setattr(job, name, value)
        one = ctypes.create_string_buffer(job.pack(), 40)
        program.send(uapi.SUBMIT, uapi.Submit(jobs=ctypes.addressof(one), job_count=1))
    assert [text.split(" is ")[1].split(":")[0] for text in board.kernel.complaints] == [
        "dropped with ENOMEM"
    ] * 2


FIELD = st.one_of(st.integers(0, 8), st.integers(0, (1 << 32) - 1))
KNOWN = [*uapi.ROCKET.ioctls.values(), *core.ANSWERED]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KNOWN), st.lists(FIELD, max_size=8)), max_size=6))
def test_any_request_answers_or_is_refused(requests: list[tuple[Ioctl, list[int]]]) -> None:
    board = Board()
    program = board.open()
    before = set(os.listdir("/proc/self/fd"))
    for ioctl, words in requests:
        raw = b"".join(word.to_bytes(4, "little") for word in words)
        size = ioctl.request >> 16 & 0x3FFF
        argument = bytearray(raw[:size].ljust(size, b"\0"))
        if ioctl is uapi.PREP_BO:
            argument[8:] = bytes(8)  # it must not wait
        with suppress(OSError):
            program.file.ioctl(ioctl.request, argument, board.caller)
    program.file.close()
    board.idle()
    board.close()
    assert board.kernel._free_bytes == 4 << 30
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # the listing's own
