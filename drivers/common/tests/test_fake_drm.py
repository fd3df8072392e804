"""The base of fake kernels: handles, addresses, memory, generic requests. And the real winsys."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import DeviceError, SimulatorFault
from teflon_common.drm import GEM_CLOSE, GENERIC, VERSION, DrmWinsys, GemClose, call, version
from teflon_common.fake_drm import (
    AddressSpace,
    FakeFile,
    FakeKernel,
    FakeWinsys,
    answers,
    copy_from_user,
)
from teflon_common.structs import Ioctl, Struct, Uapi, address, u32


class Create(Struct, size=24):
    size: int = u32()
    handle: int = u32()
    dma_address: int = address()
    offset: int = address()


CREATE = Ioctl("CREATE", "wr", 0x40, Create)
UNHEARD = Ioctl("UNHEARD", "w", 0x41, Create)


class NullKernel(FakeKernel):
    name = "null"
    description = "a kernel for tests"
    interface = Uapi("null", (VERSION, GEM_CLOSE, CREATE, UNHEARD))

    @answers(CREATE)
    def create_bo(self, file: FakeFile, argument: Create) -> None:
        bo = self.create(file, argument.size)
        argument.handle, argument.offset = bo.handle, bo.offset
        argument.dma_address = bo.address


def create(winsys: FakeWinsys, size: int) -> Create:
    return call(winsys, NullKernel.interface, CREATE, Create(size=size))


def close(winsys: FakeWinsys, handle: int) -> None:
    call(winsys, GENERIC, GEM_CLOSE, GemClose(handle=handle))


def test_version() -> None:
    found = version(FakeWinsys(NullKernel()))
    assert (found.name, found.description) == ("null", "a kernel for tests")


def test_buffers_are_zeroed_pages_at_page_addresses() -> None:
    winsys = FakeWinsys(NullKernel())
    first, second = create(winsys, 1), create(winsys, 5000)
    assert (first.handle, first.dma_address) == (1, 0x10000000)
    assert (second.handle, second.dma_address) == (2, 0x10002000)  # a guard page between them
    view = winsys.mmap(second.offset, 8192)
    assert bytes(view) == bytes(8192)
    view[5000] = 7
    assert winsys.mmap(second.offset, 5001)[5000] == 7
    for offset, size in ((second.offset, 8193), (second.offset, 0), (1, 1)):
        with pytest.raises(OSError, match="Invalid argument"):
            winsys.mmap(offset, size)


def test_handles_and_addresses_are_reused() -> None:
    winsys = FakeWinsys(NullKernel())
    made = [create(winsys, 4096) for _ in range(3)]
    close(winsys, 2)
    with pytest.raises(DeviceError, match=r"^drm GEM_CLOSE\(handle=2, pad=0\): EINVAL, Invalid"):
        close(winsys, 2)
    bigger = create(winsys, 8192)
    assert (bigger.handle, bigger.dma_address) == (2, made[2].dma_address + 0x2000)
    assert create(winsys, 100).dma_address == made[1].dma_address


def test_files_do_not_share_handles_nor_addresses() -> None:
    kernel = NullKernel()
    one, two = FakeWinsys(kernel), FakeWinsys(kernel)
    a, b = create(one, 10), create(two, 10)
    assert (a.handle, a.dma_address) == (b.handle, b.dma_address)
    assert a.offset != b.offset
    with pytest.raises(OSError, match="Permission denied"):
        one.mmap(b.offset, 10)
    one.close()
    one.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        one.mmap(a.offset, 10)
    two.mmap(b.offset, 10)


def test_memory_and_addresses_run_out_and_come_back() -> None:
    winsys = FakeWinsys(NullKernel(memory_limit=3 * 4096))
    with pytest.raises(DeviceError, match=r"CREATE\(size=0, .*\): EINVAL"):
        create(winsys, 0)
    one = create(winsys, 8192)
    with pytest.raises(
        DeviceError, match=r"ENOMEM, Cannot allocate memory \(the machine is out of memory"
    ):
        create(winsys, 8192)
    close(winsys, one.handle)
    create(winsys, 3 * 4096)
    narrow = FakeWinsys(NullKernel(first_address=0, end_address=3 * 4096))
    assert create(narrow, 4096).dma_address == 0
    with pytest.raises(DeviceError, match=r"ENOSPC"):
        create(narrow, 4097)
    create(narrow, 4096)


def test_fixed_addresses() -> None:
    space = AddressSpace(0, 1 << 20, 0)
    assert space.allocate(4096, at=8192) == 8192
    assert space.allocate(8192) == 0
    with pytest.raises(OSError, match="No space left"):
        space.allocate(4096, at=8192)
    assert space.allocate(1, at=12288) == 12288
    assert space.allocate(1) == 16384


@given(st.lists(st.tuples(st.integers(1, 20000), st.booleans()), max_size=40), st.integers(0, 2))
def test_address_spaces(steps: list[tuple[int, bool]], guard: int) -> None:
    space, used = AddressSpace(4096, 1 << 20, guard * 4096), dict[int, int]()
    for size, free in steps:
        if free and used:
            space.free(first := next(iter(used)))
            del used[first]
            continue
        at = space.allocate(size)
        assert at % 4096 == 0
        assert at >= 4096
        for other, length in used.items():
            assert at >= other + length + guard * 4096 or at + size + guard * 4096 <= other
        used[at] = size


def test_unknown_requests() -> None:
    kernel = NullKernel()
    winsys = FakeWinsys(kernel)
    for request, code in ((UNHEARD.request, errno.EINVAL), (0x1234, errno.ENOTTY)):
        with pytest.raises(OSError, match=r".") as info:
            winsys.ioctl(request, bytearray(24))
        assert info.value.errno == code
    assert kernel.complaints[0].startswith("no handler for null UNHEARD(size=0, handle=0")
    assert kernel.complaints[1].startswith("no handler for null unknown ioctl 0x00001234")


def test_complaints_are_faults_when_strict() -> None:
    with pytest.raises(SimulatorFault, match=r"^null kernel: too bad$"):
        NullKernel(strict=True).complain("too bad")
    kernel = NullKernel()
    kernel.complain("too bad")
    assert kernel.complaints == ["too bad"]


def test_memory_without_coherent_caches() -> None:
    kernel = NullKernel(coherent=False)
    winsys = FakeWinsys(kernel)
    made = create(winsys, 10)
    bo = winsys.file.lookup(made.handle)
    winsys.mmap(made.offset, 10)[0] = 1
    assert bo.device[0] == 0
    bo.sync_for_device()
    assert bo.device[0] == 1
    bo.device[1] = 2
    bo.sync_for_cpu()
    assert winsys.mmap(made.offset, 10)[1] == 2


def test_a_bad_pointer_is_efault() -> None:
    data = ctypes.create_string_buffer(b"hello")
    assert copy_from_user(ctypes.addressof(data), 5) == b"hello"
    assert copy_from_user(0, 0) == b""
    with pytest.raises(OSError, match="Bad address"):
        copy_from_user(8, 5)


def in_child(work: object) -> str:
    """Run a callable in a forked child and return what it raised, as text."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        text = "nothing"
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:This process")  # threads of earlier tests may still end
def test_a_forked_child_is_refused() -> None:
    winsys = FakeWinsys(NullKernel())
    made = create(winsys, 10)
    said = in_child(lambda: close(winsys, made.handle))
    assert said.startswith(f"DeviceError: fake null node: was opened by process {os.getpid()}")
    in_child(winsys.close)
    close(winsys, made.handle)


@pytest.mark.filterwarnings("ignore:This process")
def test_a_real_node_in_a_forked_child(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.write_bytes(bytes(4096))
    winsys = DrmWinsys(str(path))
    view = winsys.mmap(0, 4096)
    view[0] = 5
    assert path.read_bytes()[0] == 5
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        version(winsys)
    assert "must be used there (open it again" in in_child(lambda: winsys.mmap(0, 4096))
    winsys.close()
    winsys.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        version(winsys)


def test_interrupted_requests_are_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node"
    path.touch()
    winsys, tries = DrmWinsys(str(path)), [errno.EINTR, errno.EAGAIN, 0]

    def ioctl(fd: int, request: int, argument: bytearray, mutate: bool) -> int:
        if code := tries.pop(0):
            raise OSError(code, os.strerror(code))
        argument[0] = 9
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    data = bytearray(8)
    assert winsys.ioctl(GEM_CLOSE.request, data) == 0
    assert (data[0], tries) == (9, [])
    tries[:] = [errno.EACCES]
    with pytest.raises(DeviceError, match=r"^drm GEM_CLOSE\(handle=1, pad=0\): EACCES, Permission"):
        call(winsys, GENERIC, GEM_CLOSE, GemClose(handle=1))
    winsys.close()


def test_no_node() -> None:
    with pytest.raises(FileNotFoundError):
        DrmWinsys("/dev/accel/there-is-none")
