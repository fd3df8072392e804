"""A small kernel that the programs of this folder ask: check.h has its requests."""

from __future__ import annotations

import errno
import os
import signal
import struct
import threading
import time

from teflon.pipe import Caller, Kernel, OpenFile, refuse

PAGE = 4096
PAGES = 4
BUFFER = "test-buffer"
_FILE, _MEMORY = struct.Struct("<ii"), struct.Struct("<QQ")
ADD, READ, WRITE, GIVE, TAKE, LARGE, SLEEP, DIE, NONE, OUT = range(10)
_BUFFER_REQUEST = 9


class SmallKernel(Kernel):
    """Answers the requests of check.h; page i of a node's memory begins with the byte i + 1."""

    def __init__(self, name: str = "small") -> None:
        self.name, self.complaints = name, []
        self.running, self.at_once, self.most = 0, threading.Lock(), 0
        self.memory = os.memfd_create("test-memory")
        for page in range(PAGES):
            os.pwrite(self.memory, bytes([page + 1]) * PAGE, page * PAGE)

    def open(self, record: bool = False, primary: bool = False) -> OpenFile:
        return SmallFile(self)

    def request_name(self, request: int) -> str:
        return f"{request:#x}"

    def decode(self, request: int, argument: bytes | bytearray) -> str:
        return f"{request:#x}"

    def file_ioctl(self, descriptor: int, request: int, argument: bytearray, caller: Caller) -> int:
        if BUFFER not in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise refuse(errno.ENOTTY)
        if request & 0xFF != _BUFFER_REQUEST:
            raise refuse(errno.EINVAL)
        fd, _ = _FILE.unpack(argument)
        more = request >> 8 & 0xFF == ord(">")
        argument[:] = _FILE.pack(fd, os.fstat(descriptor).st_size + more)
        return 0


class SmallFile(OpenFile):
    def __init__(self, kernel: SmallKernel) -> None:
        self._kernel = kernel
        self._answers = {
            ADD: self._add, READ: self._read, WRITE: self._write, GIVE: self._give,
            TAKE: self._take, LARGE: self._large, SLEEP: self._sleep, DIE: self._die,
            NONE: lambda argument, caller: 5, OUT: self._out,
        }  # fmt: skip

    def ioctl(self, request: int, argument: bytearray, caller: Caller) -> int:
        if request >> 8 & 0xFF != ord("t") or request & 0xFF not in self._answers:
            raise refuse(errno.ENOTTY)
        return self._answers[request & 0xFF](argument, caller) or 0

    def _add(self, argument: bytearray, caller: Caller) -> None:
        fd, value = _FILE.unpack(argument)
        argument[:] = _FILE.pack(fd, value + fd)

    def _read(self, argument: bytearray, caller: Caller) -> None:
        address, size = _MEMORY.unpack(argument)
        argument[:] = _MEMORY.pack(address, sum(caller.read(address, size)))

    def _write(self, argument: bytearray, caller: Caller) -> None:
        address, size = _MEMORY.unpack(argument)
        caller.write(address, bytes([7]) * size)

    def _give(self, argument: bytearray, caller: Caller) -> None:
        _, size = _FILE.unpack(argument)
        made = os.memfd_create(BUFFER)
        try:
            os.truncate(made, size)
            argument[:] = _FILE.pack(caller.give(made), size)
        finally:
            os.close(made)

    def _take(self, argument: bytearray, caller: Caller) -> None:
        fd, _ = _FILE.unpack(argument)
        taken = caller.take(fd)
        argument[:] = _FILE.pack(fd, os.fstat(taken).st_size)
        os.close(taken)

    def _large(self, argument: bytearray, caller: Caller) -> None:
        argument[:] = bytes((byte + 1) % 256 for byte in argument)

    def _sleep(self, argument: bytearray, caller: Caller) -> None:
        fd, value = _FILE.unpack(argument)
        kernel = self._kernel
        with kernel.at_once:
            kernel.running += 1
            kernel.most = max(kernel.most, kernel.running)
        time.sleep(value / 1000)
        with kernel.at_once:
            kernel.running -= 1
        argument[:] = _FILE.pack(fd, value + 1)

    def _die(self, argument: bytearray, caller: Caller) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _out(self, argument: bytearray, caller: Caller) -> None:
        argument[:] = _FILE.pack(0, 11)

    def memory(self, offset: int, size: int) -> tuple[int, int]:
        if offset % PAGE or offset + size > PAGES * PAGE:
            raise refuse(errno.EINVAL)
        return self._kernel.memory, offset

    def close(self) -> None:
        """Do nothing: the file holds nothing."""

    def status(self) -> dict[str, int]:
        return {"handles": 0, "bytes": 0}
