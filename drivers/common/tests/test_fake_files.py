"""Sync files and dma_bufs of fake kernels: requests, errnos, poll, and what is left of them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon_common.caller import OwnProcess, calling
from teflon_common.fake_fences import (
    Fence,
    Reservation,
    SyncFile,
    find_sync_file,
    merged,
    new_context,
    open_sync_files,
    stub,
)
from teflon_common.fake_files import (
    DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
    DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
    DMA_BUF_IOCTL_SYNC,
    DMA_BUF_SET_NAME_A,
    DMA_BUF_SET_NAME_B,
    SYNC_IOC_FILE_INFO,
    SYNC_IOC_MERGE,
    SYNC_IOC_SET_DEADLINE,
    MemoryFile,
    file_ioctl,
    note_exported,
)


class Job:
    """A job and its fence."""

    def __init__(self, context: int = 0, number: int = 1) -> None:
        self.future: Future[None] = Future()
        self.fence = Fence(self.future, timeline="etnaviv", context=context, number=number)

    def end(self, error: int = 0) -> None:
        self.fence.error = error
        self.future.set_result(None)


@pytest.fixture
def job() -> Iterator[Job]:
    yield Job(new_context())
    deadline = time.monotonic() + 10
    while open_sync_files():
        assert time.monotonic() < deadline, "a sync file is left"
        time.sleep(0.001)


@contextlib.contextmanager
def opened(*fences: Fence, name: str = "") -> Iterator[int]:
    number = SyncFile(fences, name).give()
    try:
        yield number
    finally:
        os.close(number)


def polled(number: int) -> int:
    poll = select.poll()
    poll.register(number, select.POLLIN | select.POLLOUT)
    return sum(event for _, event in poll.poll(0))


def refused(descriptor: int, request: int, argument: bytes) -> str:
    """Return the name of the errno of a request, "0" for none."""
    try:
        file_ioctl(descriptor, request, bytearray(argument))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "0"


def merge(one: int, two: int, name: bytes = b"both", flags: int = 0, pad: int = 0) -> int:
    data = bytearray(struct.pack("<32siiII", name, two, 0, flags, pad))
    file_ioctl(one, SYNC_IOC_MERGE, data)
    return int(struct.unpack("<32siiII", data)[2])


Told = tuple[str, int, list[tuple[str, str, int, int]]]


def info(number: int, room: int = 0) -> Told:
    """Return name and status, and (timeline, driver, status, time) of the fences."""
    array = ctypes.create_string_buffer(80 * max(room, 1))
    data = bytearray(struct.pack("<32siIIIQ", b"", 7, 0, room, 0, ctypes.addressof(array)))
    file_ioctl(number, SYNC_IOC_FILE_INFO, data)
    name, status, flags, count, pad, _ = struct.unpack("<32siIIIQ", data)
    assert (flags, pad) == (0, 0)
    fences = []
    for at in range(count if room else 0):
        timeline, driver, one, zero, when = struct.unpack_from("<32s32siIQ", array, 80 * at)
        assert zero == 0
        fences.append((timeline.rstrip(b"\0").decode(), driver.rstrip(b"\0").decode(), one, when))
    return name.rstrip(b"\0").decode(), status, fences


def test_poll_tells_when_a_job_has_ended(job: Job) -> None:
    with opened(job.fence) as number:
        assert polled(number) == 0
        job.end()
        assert polled(number) == select.POLLIN
        with opened(job.fence) as later:
            assert polled(later) == select.POLLIN


def test_copies_keep_a_file_and_find_it(job: Job) -> None:
    with opened(job.fence) as number:
        copy = os.dup(number)
    found = find_sync_file(copy)
    assert found is not None
    assert not found.wait(0.01)
    threading.Timer(0.02, job.end).start()
    assert found.wait(10)
    assert polled(copy) == select.POLLIN
    os.close(copy)
    assert find_sync_file(copy) is None


def test_nothing_is_left_of_closed_files(job: Job) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        with opened(job.fence):
            pass
    deadline = time.monotonic() + 10
    while open_sync_files() or len(os.listdir("/proc/self/fd")) > before + 1:  # and the epoll
        assert time.monotonic() < deadline
    job.end()  # whose callbacks find no file


def test_the_info_of_a_file(job: Job) -> None:
    with opened(job.fence) as number:
        assert info(number) == (f"drm_sched-etnaviv{job.fence.context}-1", 0, [])
        assert info(number, 3)[1:] == (0, [("etnaviv", "drm_sched", 0, 0)])
        before = time.monotonic_ns()
        job.end()
        _, status, [(*_, one, when)] = info(number, 1)
        assert (status, one) == (1, 1)
        assert before <= when <= time.monotonic_ns()


def test_a_failed_job_shows_in_the_status(job: Job) -> None:
    with opened(job.fence, stub()) as number:
        job.end(-errno.ECANCELED)
        assert info(number)[1] == info(number, 2)[1] == -errno.ECANCELED


def test_merging(job: Job) -> None:
    second = Job(new_context())
    with opened(job.fence) as one, opened(second.fence) as two, opened(stub()) as three:
        both = merge(one, two, b"x" * 40)
        assert info(both) == ("x" * 31, 0, [])
        assert len(info(both, 2)[2]) == 2
        assert refused(both, SYNC_IOC_FILE_INFO, struct.pack("<32siIIIQ", b"", 0, 0, 1, 0, 1)) == (
            "EINVAL"
        )
        same = merge(both, three)
        assert len(info(same, 9)[2]) == 2  # what has signalled is left out
        job.end()
        assert polled(both) == 0
        second.end()
        assert polled(both) == polled(same) == select.POLLIN
        done = merge(one, two, b"")
        [(timeline, driver, status, when)] = info(done, 9)[2]
        assert (timeline, driver, status) == ("stub", "stub", 1)
        assert when == second.fence.timestamp_ns
        for number in (both, same, done):
            os.close(number)


def test_of_one_timeline_the_latest_counts() -> None:
    context = new_context()
    jobs = [Job(context, number) for number in (1, 3, 2)]
    other = Job(new_context())
    assert merged(job.fence for job in [*jobs, other]) == [jobs[1].fence, other.fence]
    assert len(merged([Job().fence, Job().fence])) == 2  # of no timeline


def test_errnos_of_sync_files(job: Job) -> None:
    room = ctypes.create_string_buffer(80)
    at = ctypes.addressof(room)
    with opened(job.fence) as number, open(os.devnull) as foreign:
        other = foreign.fileno()
        for request, argument, code in (
            (SYNC_IOC_MERGE, struct.pack("<32siiII", b"", number, 0, 1, 0), "EINVAL"),
            (SYNC_IOC_MERGE, struct.pack("<32siiII", b"", number, 0, 0, 1), "EINVAL"),
            (SYNC_IOC_MERGE, struct.pack("<32siiII", b"", other, 0, 0, 0), "ENOENT"),
            (SYNC_IOC_MERGE, struct.pack("<32siiII", b"", -1, 0, 0, 0), "ENOENT"),
            (SYNC_IOC_MERGE, b"short", "EFAULT"),
            (SYNC_IOC_FILE_INFO, struct.pack("<32siIIIQ", b"", 0, 1, 0, 0, 0), "EINVAL"),
            (SYNC_IOC_FILE_INFO, struct.pack("<32siIIIQ", b"", 0, 0, 0, 1, 0), "EINVAL"),
            (SYNC_IOC_FILE_INFO, struct.pack("<32siIIIQ", b"", 0, 0, 1, 0, 64), "EFAULT"),
            (SYNC_IOC_FILE_INFO, struct.pack("<32siIIIQ", b"", 0, 0, 1, 0, at), "0"),
            (SYNC_IOC_SET_DEADLINE, struct.pack("<QQ", 5, 0), "0"),
            (SYNC_IOC_SET_DEADLINE, struct.pack("<QQ", 5, 1), "EINVAL"),
            (SYNC_IOC_MERGE + (1 << 16), bytes(49), "ENOTTY"),  # whole numbers are compared
            (DMA_BUF_IOCTL_SYNC, bytes(8), "ENOTTY"),
        ):
            assert (request, refused(number, request, argument)) == (request, code)
        assert refused(other, SYNC_IOC_SET_DEADLINE, bytes(16)) == "ENOTTY"


@pytest.fixture
def memory() -> MemoryFile:
    file = MemoryFile(8192)
    note_exported(file, file)
    return file


def export(file: MemoryFile, flags: int) -> int:
    data = bytearray(struct.pack("<Ii", flags, -1))
    file_ioctl(file.number, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, data)
    return int(struct.unpack("<Ii", data)[1])


def test_a_dma_buf_exports_the_fences_of_its_users(job: Job, memory: MemoryFile) -> None:
    reader = Job(new_context())
    memory.reservation.add(job.fence, writes=True)
    memory.reservation.add(reader.fence, writes=False)
    numbers = [export(memory, flags) for flags in (1, 2, 3)]
    assert [len(info(number, 9)[2]) for number in numbers] == [1, 2, 2]
    job.end()
    assert [polled(number) for number in numbers] == [select.POLLIN, 0, 0]
    reader.end()
    numbers.append(export(memory, 1))
    assert [polled(number) for number in numbers] == [select.POLLIN] * 4
    assert info(numbers[3], 1)[2][0][0] == "stub"
    for number in numbers:
        os.close(number)


def test_a_dma_buf_takes_fences_and_waits_for_them(job: Job, memory: MemoryFile) -> None:
    with opened(job.fence) as number:
        file_ioctl(
            memory.number, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, bytearray(struct.pack("<Ii", 1, number))
        )
    file_ioctl(memory.number, DMA_BUF_IOCTL_SYNC, bytearray(struct.pack("<Q", 1)))  # reads
    threading.Timer(0.05, job.end).start()
    start = time.monotonic()
    file_ioctl(memory.number, DMA_BUF_IOCTL_SYNC, bytearray(struct.pack("<Q", 2)))
    assert job.fence.done()
    assert time.monotonic() - start >= 0.04


def test_a_killed_caller_waits_no_longer(
    memory: MemoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.reservation.add(Job().fence, writes=True)
    monkeypatch.setattr(OwnProcess, "waits", lambda _: False)
    assert refused(memory.number, DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 1)) == "EINTR"


def test_errnos_of_dma_bufs(memory: MemoryFile) -> None:
    names = [ctypes.create_string_buffer(b"n" * size) for size in range(33)]

    def named(size: int) -> bytes:
        return struct.pack("<Q", ctypes.addressof(names[size]))

    with open(os.devnull) as foreign, opened(stub()) as file:
        for request, argument, code in (
            (DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 0), "EINVAL"),
            (DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 4), "EINVAL"),
            (DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 8 | 1), "EINVAL"),
            (DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 4 | 3), "0"),
            (DMA_BUF_IOCTL_SYNC, b"", "EFAULT"),
            (DMA_BUF_SET_NAME_A, named(31), "0"),
            (DMA_BUF_SET_NAME_B, named(31), "0"),
            (DMA_BUF_SET_NAME_B, named(32), "EINVAL"),
            (DMA_BUF_SET_NAME_B, struct.pack("<Q", 8), "EFAULT"),
            (DMA_BUF_IOCTL_EXPORT_SYNC_FILE, struct.pack("<Ii", 0, 0), "EINVAL"),
            (DMA_BUF_IOCTL_EXPORT_SYNC_FILE, struct.pack("<Ii", 4 | 1, 0), "EINVAL"),
            (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, struct.pack("<Ii", 0, file), "EINVAL"),
            (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, struct.pack("<Ii", 4, file), "EINVAL"),
            (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, struct.pack("<Ii", 1, -1), "EINVAL"),
            (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, struct.pack("<Ii", 1, foreign.fileno()), "EINVAL"),
            (DMA_BUF_IOCTL_IMPORT_SYNC_FILE, struct.pack("<Ii", 1, file), "0"),
            (0x40086205, bytes(8), "ENOTTY"),
            (SYNC_IOC_SET_DEADLINE, bytes(16), "ENOTTY"),
        ):
            assert (request, refused(memory.number, request, argument)) == (request, code)
        assert refused(foreign.fileno(), DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 1)) == "ENOTTY"


def test_a_dma_buf_outlives_its_buffer() -> None:
    file = MemoryFile(4096)
    number = file.opened(writable=True)
    del file
    assert os.pread(number, 9, 0) == bytes(9)
    assert refused(number, DMA_BUF_IOCTL_SYNC, struct.pack("<Q", 3)) == "0"
    with pytest.raises(OSError, match="not permitted"):
        os.truncate(number, 1)  # would end the board by SIGBUS
    os.close(number)


def test_a_reservation_forgets_what_has_signalled() -> None:
    reservation, jobs = Reservation(), [Job() for _ in range(100)]
    for job in jobs:
        reservation.add(job.fence, writes=True)
        job.end()
    assert len(reservation._fences) <= 1
    assert reservation.fences(writing=True) == []


@given(st.sampled_from("b>d"), st.integers(0, 7), st.integers(0, 3), st.binary(max_size=64))
def test_any_request_answers_or_is_refused(
    group: str, number: int, direction: int, argument: bytes
) -> None:
    request = direction << 30 | len(argument) << 16 | ord(group) << 8 | number
    memory = MemoryFile(4096)
    with opened(stub()) as file, calling(caller := Remembering()):
        for descriptor in (file, memory.number):
            refused(descriptor, request, argument)
        for given in caller.given:
            os.close(given)


class Remembering(OwnProcess):
    """This process, which remembers what it got."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def give(self, descriptor: int, stays: bool = False) -> int:
        self.given.append(super().give(descriptor))
        return self.given[-1]
