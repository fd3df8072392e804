"""What the DRM core answers for every driver, behind a node: requests x errors, PRIME, mmap."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import mmap
import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.pipe import OpenFile
from teflon_common import drm_core as core
from teflon_common.caller import OwnProcess, calling
from teflon_common.drm import GEM_CLOSE, VERSION, GemClose, Version
from teflon_common.fake_drm import FakeFile, FakeKernel, FakeWinsys, answers
from teflon_common.fake_files import DMA_BUF_IOCTL_SYNC, find_memory
from teflon_common.served import ServedKernel
from teflon_common.structs import Ioctl, Struct, Uapi, address, u32


class Create(Struct, size=24):
    size: int = u32()
    handle: int = u32()
    dma_address: int = address()
    offset: int = address()


CREATE = Ioctl("CREATE", "wr", 0x40, Create)


class Kernel(FakeKernel):
    name = "null"
    description = "a kernel for tests"
    numbers = (3, 2, 1)
    interface = Uapi("null", (VERSION, GEM_CLOSE, CREATE))

    @answers(CREATE)
    def create_bo(self, file: FakeFile, argument: Create) -> None:
        bo = self.create(file, argument.size)
        argument.handle, argument.offset = bo.handle, bo.offset
        argument.dma_address = bo.address


class Accel(Kernel):
    node = "accel"


class Importing(Kernel):
    imports = True


class Remembering(OwnProcess):
    """This process, which remembers the descriptors that it got."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def give(self, descriptor: int, stays: bool = False) -> int:
        self.given.append(super().give(descriptor))
        return self.given[-1]

    def close(self) -> None:
        for number in self.given:
            os.close(number)
        self.given = []


@pytest.fixture
def caller() -> Iterator[Remembering]:
    made = Remembering()
    yield made
    made.close()


class Node:
    """An open file of a served kernel, and its requests in short."""

    def __init__(self, kernel: FakeKernel, caller: Remembering, primary: bool = False) -> None:
        self.file, self.caller = ServedKernel(kernel).open(primary=primary), caller

    def send(self, ioctl: Ioctl, argument: Struct | None = None) -> Struct:
        argument = argument or ioctl.struct()
        data = bytearray(argument.pack())
        self.file.ioctl(ioctl.request, data, self.caller)
        return ioctl.struct.unpack(data)

    def refused(self, ioctl: Ioctl, argument: Struct | None = None) -> str:
        return refused(self.file, ioctl.request, bytearray((argument or ioctl.struct()).pack()))

    def create(self, size: int = 4096) -> Create:
        answer = self.send(CREATE, Create(size=size))
        assert isinstance(answer, Create)
        return answer

    def export(self, handle: int, flags: int = core.RDWR | core.CLOEXEC) -> int:
        answer = self.send(core.PRIME_HANDLE_TO_FD, core.PrimeHandle(handle=handle, flags=flags))
        return answer.values()["fd"]

    def take(self, fd: int) -> int:
        return self.send(core.PRIME_FD_TO_HANDLE, core.PrimeHandle(fd=fd)).values()["handle"]


def refused(file: OpenFile, request: int, argument: bytearray) -> str:
    """Return the name of a request's errno, "0" for none."""
    try:
        file.ioctl(request, argument, OwnProcess())
    except OSError as error:
        return _name(error)
    return "0"


def _name(error: OSError) -> str:
    return errno.errorcode[error.errno or 0].replace("ENOTSUP", "EOPNOTSUPP")


TABLE = [  # request, argument, errno on a render node, on an accel node
    (core.GET_UNIQUE, core.GetUnique(), "EACCES", "EINVAL"),
    (core.GET_MAGIC, core.Auth(), "EACCES", "EINVAL"),
    (core.SET_VERSION, core.SetVersion(), "EACCES", "EACCES"),
    (core.GEM_FLINK, core.GemFlink(), "EACCES", "EACCES"),
    (core.GEM_OPEN, core.GemOpen(), "EACCES", "EACCES"),
    (core.AUTH_MAGIC, core.Auth(), "EACCES", "EACCES"),
    (core.SET_MASTER, core.Unread(), "EACCES", "EACCES"),
    (core.DROP_MASTER, core.Unread(), "EACCES", "EACCES"),
    (core.GET_CLIENT, core.GetClient(), "EACCES", "0"),
    (core.GET_CLIENT, core.GetClient(idx=1), "EACCES", "EINVAL"),
    (core.GET_CLIENT, core.GetClient(idx=-1), "EACCES", "EINVAL"),
    (core.GET_STATS, core.GetStats(), "EACCES", "0"),
    (core.GET_CAP, core.GetCap(capability=core.CAP_PRIME), "0", "0"),
    (core.GET_CAP, core.GetCap(capability=1), "EOPNOTSUPP", "EOPNOTSUPP"),
    (core.GET_CAP, core.GetCap(capability=1 << 40), "EOPNOTSUPP", "EOPNOTSUPP"),
    (core.SET_CLIENT_NAME, core.SetClientName(name_len=65), "EINVAL", "EINVAL"),
    (core.SET_CLIENT_NAME, core.SetClientName(name_len=3, name=8), "EFAULT", "EFAULT"),
    (core.SET_CLIENT_NAME, core.SetClientName(name_len=0, name=8), "0", "0"),
    (GEM_CLOSE, GemClose(handle=0), "EINVAL", "EINVAL"),
    (GEM_CLOSE, GemClose(handle=9), "EINVAL", "EINVAL"),
    (VERSION, Version(name_len=9, name=8), "EFAULT", "EFAULT"),
    (VERSION, Version(name_len=9), "0", "0"),
    (core.PRIME_HANDLE_TO_FD, core.PrimeHandle(handle=9), "ENOENT", "ENOENT"),
    (core.PRIME_HANDLE_TO_FD, core.PrimeHandle(handle=9, flags=4), "EINVAL", "EINVAL"),
    (core.PRIME_FD_TO_HANDLE, core.PrimeHandle(fd=-1), "EBADF", "EBADF"),
]


@pytest.mark.parametrize(("ioctl", "argument", "render", "accel"), TABLE)
def test_errnos(
    ioctl: Ioctl, argument: Struct, render: str, accel: str, caller: Remembering
) -> None:
    assert Node(Kernel(), caller).refused(ioctl, argument) == render
    assert Node(Accel(), caller).refused(ioctl, argument) == accel


# Ref: Linux, drivers/gpu/drm/drm_ioctl.c (drm_ioctls, drm_ioctl_permit)
REFUSED = {
    "EACCES EACCES": "SET_UNIQUE BLOCK UNBLOCK ADD_DRAW RM_DRAW FINISH UPDATE_DRAW MODE_SETCRTC "
    "MODE_CURSOR MODE_SETGAMMA MODE_ATTACHMODE MODE_DETACHMODE MODE_SETPROPERTY "
    "MODE_PAGE_FLIP MODE_DIRTYFB MODE_SETPLANE MODE_OBJ_SETPROPERTY MODE_CURSOR2 "
    "MODE_ATOMIC MODE_CREATE_LEASE MODE_LIST_LESSEES MODE_GET_LEASE MODE_REVOKE_LEASE",
    "EACCES EOPNOTSUPP": "SET_CLIENT_CAP WAIT_VBLANK CRTC_GET_SEQUENCE CRTC_QUEUE_SEQUENCE"
    " MODE_GETRESOURCES MODE_GETCRTC MODE_GETGAMMA MODE_GETENCODER MODE_GETCONNECTOR"
    " MODE_GETPROPERTY MODE_GETPROPBLOB MODE_GETFB MODE_ADDFB MODE_RMFB MODE_GETPLANERESOURCES"
    " MODE_GETPLANE MODE_ADDFB2 MODE_OBJ_GETPROPERTIES MODE_CREATEPROPBLOB MODE_DESTROYPROPBLOB"
    " MODE_GETFB2 MODE_CLOSEFB",
    "EACCES ENOSYS": "MODE_CREATE_DUMB MODE_MAP_DUMB MODE_DESTROY_DUMB",
    "EOPNOTSUPP EOPNOTSUPP": "SYNCOBJ_CREATE SYNCOBJ_DESTROY SYNCOBJ_HANDLE_TO_FD"
    " SYNCOBJ_FD_TO_HANDLE SYNCOBJ_WAIT SYNCOBJ_RESET SYNCOBJ_SIGNAL SYNCOBJ_TIMELINE_WAIT"
    " SYNCOBJ_QUERY SYNCOBJ_TRANSFER SYNCOBJ_TIMELINE_SIGNAL SYNCOBJ_EVENTFD",
    "EINVAL EINVAL": "GEM_CHANGE_HANDLE",
}


def test_what_is_always_refused(caller: Remembering) -> None:
    nodes = Node(Kernel(), caller), Node(Accel(), caller)
    found: dict[str, list[str]] = {}
    for ioctl in core.REFUSED:
        codes = " ".join(node.refused(ioctl) for node in nodes)
        found.setdefault(codes, []).append(ioctl.name)
    assert {codes: sorted(names) for codes, names in found.items()} == {
        codes: sorted(names.split()) for codes, names in REFUSED.items()
    }


def test_unknown_requests(caller: Remembering) -> None:
    kernel = Kernel()
    node = Node(kernel, caller)
    for number in (0x03, 0x04, 0x08, 0x14, 0x3D, 0x41, 0x9F, 0xD3, 0xFF):
        assert refused(node.file, 0xC0006400 | number, bytearray()) == "EINVAL", hex(number)
    for group in (0x00, ord("b"), ord("T"), 0xFF):
        assert refused(node.file, 0xC0080000 | group << 8, bytearray(8)) == "ENOTTY"
    assert len(kernel.complaints) == 13
    assert all(text.startswith("no handler for ") for text in kernel.complaints)


def test_version_tells_lengths_and_cuts_texts(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    name, text = ctypes.create_string_buffer(b"x" * 8, 8), ctypes.create_string_buffer(b"x" * 4, 4)
    answer = node.send(
        VERSION,
        Version(name_len=8, name=ctypes.addressof(name), desc_len=3, desc=ctypes.addressof(text)),
    )
    assert answer == Version(
        version_major=3, version_minor=2, version_patchlevel=1, name_len=4, date_len=1,
        desc_len=18, name=ctypes.addressof(name), desc=ctypes.addressof(text),
    )  # fmt: skip
    assert (name.raw, text.raw) == (b"nullxxxx", b"a kx")


def test_the_kernels_rules_of_size_and_direction(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    wanted = core.GetCap(capability=core.CAP_TIMESTAMP_MONOTONIC, value=7)

    def sent(direction: int, size: int) -> tuple[str, bytes]:
        data = bytearray((wanted.pack() + b"rest of the caller's own")[:size])
        return refused(node.file, direction << 30 | size << 16 | 0x640C, data), bytes(data)

    assert sent(3, 16) == ("0", b"\x06" + bytes(7) + b"\1" + bytes(7))
    assert sent(3, 9) == ("0", b"\x06" + bytes(7) + b"\1")  # a shorter struct gets what fits
    assert sent(3, 20) == ("0", b"\x06" + bytes(7) + b"\1" + bytes(7) + b"rest")
    assert sent(1, 16) == ("0", wanted.pack())  # it does not want the answer
    assert sent(2, 20) == ("EOPNOTSUPP", bytes(20))  # it sends nothing, so all is zero
    assert sent(0, 0) == ("EOPNOTSUPP", b"")
    assert refused(node.file, 0xC010640C, bytearray(3)) == "EFAULT"
    stats = bytearray(b"x" * 248)
    assert refused(Node(Accel(), caller).file, 0x80F86406, stats) == "0"
    assert stats == bytes(248)
    cap = bytearray(core.GetCap(capability=1, value=9).pack())
    assert refused(node.file, core.GET_CAP.request, cap) == "EOPNOTSUPP"
    assert cap == core.GetCap(capability=1).pack()  # an error brings an answer as well


def test_capabilities(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    values = {
        number: node.send(core.GET_CAP, core.GetCap(capability=number, value=9)).values()["value"]
        for number in (5, 6, 0x13, 0x14)
    }
    assert values == {5: 3, 6: 1, 0x13: 0, 0x14: 0}


def test_the_client_is_the_caller(caller: Remembering) -> None:
    answer = Node(Accel(), caller).send(core.GET_CLIENT, core.GetClient(auth=5, magic=5, iocs=5))
    assert answer == core.GetClient(pid=os.getpid(), uid=65534)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"mesa", "0"),
        (b"x" * 64, "0"),
        (b"a b", "EINVAL"),
        (b"a\0b", "EINVAL"),
        (b"\x80", "EINVAL"),
    ],
)
def test_names_of_clients(name: bytes, code: str, caller: Remembering) -> None:
    kernel = Kernel()
    file = kernel.open()
    kept = ctypes.create_string_buffer(name, len(name))
    argument = core.SetClientName(name_len=len(name), name=ctypes.addressof(kept))
    found = "0"
    try:
        kernel.ioctl(file, core.SET_CLIENT_NAME.request, bytearray(argument.pack()))
    except OSError as error:
        found = _name(error)
    assert (found, file.name) == (code, name.decode() if code == "0" else "")


# PRIME


def test_a_dma_buf_has_the_buffers_memory(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    bo = node.create(5000)
    number = node.export(bo.handle)
    assert os.lseek(number, 0, os.SEEK_END) == 8192
    own, offset = node.file.memory(bo.offset, 8192)
    with mmap.mmap(number, 8192) as one, mmap.mmap(own, 8192, offset=offset) as two:
        one[4999] = 7
        assert two[4999] == 7
    argument = bytearray((3).to_bytes(8, "little"))
    assert ServedKernel(Kernel()).file_ioctl(number, DMA_BUF_IOCTL_SYNC, argument, caller) == 0


def test_a_buffer_has_one_handle_in_a_file(caller: Remembering) -> None:
    kernel = Kernel()
    one, two = Node(kernel, caller), Node(kernel, caller)
    two.create()
    bo = one.create()
    numbers = [one.export(bo.handle) for _ in range(2)]
    assert os.path.sameopenfile(numbers[0], numbers[1]) or os.fstat(numbers[0]) == os.fstat(
        numbers[1]
    )
    assert [one.take(number) for number in numbers] == [bo.handle] * 2
    assert [two.take(number) for number in numbers] == [2] * 2
    assert two.export(2) != numbers[0]
    with pytest.raises(OSError, match="Permission denied"):
        Node(kernel, caller).file.memory(bo.offset, 4096)
    two.file.memory(bo.offset, 4096)
    one.send(GEM_CLOSE, GemClose(handle=bo.handle))
    with pytest.raises(OSError, match="Permission denied"):
        one.file.memory(bo.offset, 4096)
    two.file.memory(bo.offset, 4096)
    assert one.take(numbers[0]) == 1
    one.file.close()
    two.file.close()
    with pytest.raises(OSError, match="Invalid argument"):
        two.file.memory(bo.offset, 4096)


def test_the_first_export_decides_about_writing(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    bo = node.create()
    for flags in (0, core.RDWR):
        number = node.export(bo.handle, flags)
        assert fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(OSError, match="Permission denied"):
            mmap.mmap(number, 4096, prot=mmap.PROT_WRITE)
    assert node.take(number) == bo.handle


def test_between_devices(caller: Remembering) -> None:
    render, accel = Importing(), Accel()
    one, two = Node(render, caller), Node(accel, caller)
    ours, theirs = one.create(), two.create(8192)
    theirs_there = one.take(two.export(theirs.handle))
    assert (theirs_there, one.take(two.export(theirs.handle))) == (2, 2)
    with pytest.raises(OSError, match="Invalid argument"):  # it takes no foreign memory
        two.take(one.export(ours.handle))
    assert two.take(one.export(theirs_there)) == theirs.handle  # it is its own after all
    used = render._free_bytes
    one.send(GEM_CLOSE, GemClose(handle=theirs_there))
    assert render._free_bytes == used  # the memory is not counted twice


@pytest.mark.parametrize("kernel", [Kernel, Importing])
def test_a_dma_buf_of_a_closed_buffer_can_be_taken_back(
    kernel: type[FakeKernel], caller: Remembering
) -> None:
    made = kernel()
    node = Node(made, caller)
    bo = node.create()
    number = node.export(bo.handle, 0)
    os.pwrite(writable := os.open(f"/proc/self/fd/{number}", os.O_RDWR), b"kept", 0)
    os.close(writable)
    node.send(GEM_CLOSE, GemClose(handle=bo.handle))
    gc.collect()
    assert find_memory(number) is None
    handle = node.take(number)
    assert node.take(number) == handle
    file = made.open()
    made.release(file)
    back = node.export(handle)
    assert os.pread(back, 4, 0) == b"kept"
    node.file.close()
    assert made._free_bytes == 4 << 30


def test_no_dma_bufs(caller: Remembering) -> None:
    node = Node(Kernel(), caller)
    with open(os.devnull) as other:
        assert (
            node.refused(core.PRIME_FD_TO_HANDLE, core.PrimeHandle(fd=other.fileno())) == "EINVAL"
        )
    kernel = Kernel(strict=True)
    winsys = FakeWinsys(kernel)  # a simulation in this process
    winsys.ioctl(CREATE.request, bytearray(Create(size=1).pack()))
    with pytest.raises(OSError, match="not supported"):
        winsys.ioctl(core.PRIME_HANDLE_TO_FD.request, bytearray(core.PrimeHandle(handle=1).pack()))
    assert kernel.complaints == [
        "PRIME_HANDLE_TO_FD: handle 1 is memory of this process, must be a buffer of a virtual"
        " board (teflon board) to become a dma_buf"
    ]


def test_mmap_errors(caller: Remembering) -> None:
    kernel = Kernel()
    node, other = Node(kernel, caller), Node(kernel, caller)
    bo = node.create(8192)
    for file, offset, size, text in (
        (node.file, bo.offset + 4096, 4096, "Invalid"),
        (node.file, bo.offset, 8193, "Invalid"),
        (node.file, bo.offset, 0, "Invalid"),
        (node.file, 0, 4096, "Invalid"),
        (other.file, bo.offset, 8193, "Invalid"),
        (other.file, bo.offset, 4096, "Permission denied"),
    ):
        with pytest.raises(OSError, match=text):
            file.memory(offset, size)


# primary nodes

ON_PRIMARY = [  # request, argument, errno for the master, for another client
    (core.GET_UNIQUE, core.GetUnique(), "0", "0"),
    (core.GET_MAGIC, core.Auth(), "0", "0"),
    (core.SET_VERSION, core.SetVersion(di_major=1, di_minor=4, dd_major=-1), "0", "EACCES"),
    (core.SET_VERSION, core.SetVersion(di_major=-1, dd_major=3, dd_minor=2), "0", "EACCES"),
    (core.SET_VERSION, core.SetVersion(di_major=2, dd_major=-1), "EINVAL", "EACCES"),
    (core.SET_VERSION, core.SetVersion(di_major=1, di_minor=5, dd_major=-1), "EINVAL", "EACCES"),
    (core.SET_VERSION, core.SetVersion(di_major=-1, dd_major=3, dd_minor=3), "EINVAL", "EACCES"),
    (core.AUTH_MAGIC, core.Auth(magic=9), "EINVAL", "EACCES"),
    (core.SET_MASTER, core.Unread(), "0", "EACCES"),
    (core.GEM_FLINK, core.GemFlink(handle=9), "ENOENT", "EACCES"),
    (core.GEM_OPEN, core.GemOpen(name=9), "ENOENT", "EACCES"),
    (core.GET_CAP, core.GetCap(capability=1), "EOPNOTSUPP", "EOPNOTSUPP"),
    (core.PRIME_HANDLE_TO_FD, core.PrimeHandle(handle=9), "ENOENT", "ENOENT"),
    (core.DROP_MASTER, core.Unread(), "0", "EACCES"),
]  # fmt: skip
REFUSED_ON_PRIMARY = {
    "MODE_GETRESOURCES": ("EOPNOTSUPP", "EOPNOTSUPP"), "MODE_ATTACHMODE": ("0", "EACCES"),
    "MODE_ATOMIC": ("EOPNOTSUPP", "EACCES"), "FINISH": ("0", "EACCES"),
    "SET_UNIQUE": ("EACCES", "EACCES"), "SYNCOBJ_CREATE": ("EOPNOTSUPP", "EOPNOTSUPP"),
}  # fmt: skip


def test_errnos_on_primary_nodes(caller: Remembering) -> None:
    kernel = Kernel()
    master, other = (Node(kernel, caller, primary=True) for _ in range(2))
    for ioctl in core.REFUSED:
        if ioctl.name in REFUSED_ON_PRIMARY:
            codes = master.refused(ioctl), other.refused(ioctl)
            assert (ioctl.name, codes) == (ioctl.name, REFUSED_ON_PRIMARY[ioctl.name])
    for request, argument, first, second in ON_PRIMARY:
        found = master.refused(request, argument), other.refused(request, argument)
        assert (request.name, *found) == (request.name, first, second)
    assert kernel.complaints == []


def test_masters_and_clients(caller: Remembering) -> None:
    kernel = Kernel()
    master, client = (Node(kernel, caller, primary=True) for _ in range(2))
    magics = [n.send(core.GET_MAGIC).values()["magic"] for n in (client, master, client)]
    assert magics == [1, 2, 1]
    assert client.send(core.GET_CLIENT).values()["auth"] == 0
    master.send(core.AUTH_MAGIC, core.Auth(magic=1))
    assert master.refused(core.AUTH_MAGIC, core.Auth(magic=1)) == "EINVAL"  # once
    assert client.send(core.GET_CLIENT).values()["auth"] == 1
    master.send(core.DROP_MASTER)
    assert master.refused(core.DROP_MASTER) == "EINVAL"
    third = Node(kernel, caller, primary=True)
    assert master.refused(core.SET_MASTER) == "EBUSY"
    third.file.close()
    master.send(core.SET_MASTER)


def test_names_of_buffers(caller: Remembering) -> None:
    kernel = Kernel()
    master, client = (Node(kernel, caller, primary=True) for _ in range(2))
    magic = client.send(core.GET_MAGIC).values()["magic"]
    master.send(core.AUTH_MAGIC, core.Auth(magic=magic))
    bo = master.create(5000)
    flink = core.GemFlink(handle=bo.handle)
    names = [master.send(core.GEM_FLINK, flink).values()["name"] for _ in range(2)]
    assert names == [1, 1]
    opened = [client.send(core.GEM_OPEN, core.GemOpen(name=1)) for _ in range(2)]
    assert opened == [core.GemOpen(name=1, handle=h, size=8192) for h in (1, 2)]
    client.send(GEM_CLOSE, GemClose(handle=1))
    client.file.memory(bo.offset, 8192)  # the other handle is still there
    client.send(GEM_CLOSE, GemClose(handle=2))
    with pytest.raises(OSError, match="Permission denied"):
        client.file.memory(bo.offset, 8192)
    master.send(GEM_CLOSE, GemClose(handle=bo.handle))
    assert client.refused(core.GEM_OPEN, core.GemOpen(name=1)) == "ENOENT"


def test_the_bus_is_told_after_set_version(caller: Remembering) -> None:
    master = Node(Kernel(), caller, primary=True)
    room = ctypes.create_string_buffer(8)
    asked = core.GetUnique(unique_len=8, unique=ctypes.addressof(room))
    assert master.send(core.GET_UNIQUE, asked).values()["unique_len"] == 0
    answer = master.send(core.SET_VERSION, core.SetVersion(di_major=1, di_minor=1, dd_major=-1))
    assert answer == core.SetVersion(di_major=1, di_minor=4, dd_major=3, dd_minor=2)
    short = core.GetUnique(unique_len=3, unique=ctypes.addressof(room))
    assert master.send(core.GET_UNIQUE, short).values()["unique_len"] == 4
    assert room.raw == bytes(8)
    master.send(core.GET_UNIQUE, asked)
    assert room.value == b"null"


# closing


def test_a_close_does_not_wait_for_what_hangs(caller: Remembering) -> None:
    ended = threading.Event()

    class Hanging(Kernel):
        def release(self, file: FakeFile) -> None:
            assert ended.wait(20)
            super().release(file)

    kernel = Hanging()
    node = Node(kernel, caller)
    node.create()
    start = time.monotonic()
    node.file.close()
    assert time.monotonic() - start < 5
    assert kernel._offsets
    ended.set()
    while kernel._offsets:
        assert time.monotonic() - start < 20


# anything


REQUESTS = st.one_of(
    st.integers(0, (1 << 32) - 1),
    st.builds(
        lambda direction, size, number: direction << 30 | size << 16 | 0x6400 | number,
        st.integers(0, 3), st.integers(0, 260),
        st.one_of(st.integers(0, 255), st.sampled_from([i.number for i in core.ANSWERED])),
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["render", "accel", "primary"]),
    st.lists(st.tuples(REQUESTS, st.binary(max_size=64)), max_size=8),
)
def test_any_request_answers_or_is_refused(kind: str, requests: list[tuple[int, bytes]]) -> None:
    kernel: FakeKernel = Accel() if kind == "accel" else Importing()
    caller = Remembering()
    node = Node(kernel, caller, primary=kind == "primary")
    node.create()
    caller.given.append(os.open(os.devnull, os.O_RDONLY))
    before = len(os.listdir("/proc/self/fd"))
    for request, data in requests:
        size = request >> 16 & 0x3FFF
        argument = bytearray(data[:size].ljust(size, b"\0"))
        with contextlib.suppress(OSError):
            node.file.ioctl(request, argument, caller)
        assert len(argument) == size
    given = len(caller.given) - 1
    assert len(os.listdir("/proc/self/fd")) <= before + given
    caller.close()
    node.file.close()
    del node
    assert kernel._free_bytes == 4 << 30
    assert not kernel._offsets


def test_descriptors_do_not_leak(caller: Remembering) -> None:
    kernel = Kernel()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        one, two = Node(kernel, caller), Node(kernel, caller)
        for _ in range(5):
            two.take(one.export(one.create().handle))
        with calling(caller):
            one.file.close()
            two.file.close()
        caller.close()
        del one, two
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
