"""The protocol between a board and the shim in a program: shim.c is its other side.

A request comes with one end of a new socket pair, on which its answer goes back. So requests of
many threads and processes do not wait for each other, and the board needs no table of callers.
While it answers, the board may ask for memory and descriptors of the program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable

from teflon.pipe import Caller, refuse

OPEN, IOCTL, MMAP, FILE = range(4)
"""Requests. FILE is an ioctl of a file that is no node; that file comes with the request."""
DONE, READ, WRITE, GIVE, TAKE = range(5)
"""What the board sends: the answer, or a question that the shim answers first."""
REQUEST, ANSWER = struct.Struct("<IIQQ"), struct.Struct("<iiQQ")
CHUNK = 1 << 16
"""Bytes of memory that one question moves."""
THREADS = 256
"""Requests of one open file that are answered at the same time."""


class OtherProcess(Caller):
    """The process that waits for an answer on a reply socket."""

    def __init__(self, reply: socket.socket, pid: int) -> None:
        self._reply, self._pid = reply, pid

    @property
    def pid(self) -> int:
        return self._pid

    def waits(self) -> bool:
        poll = select.poll()
        poll.register(self._reply, select.POLLIN)
        return not poll.poll(0)  # it says nothing unless asked

    def read(self, pointer: int, size: int) -> bytes:
        return b"".join(
            self._asked(READ, at, size=min(CHUNK, pointer + size - at))
            for at in range(pointer, pointer + size, CHUNK)
        )

    def write(self, pointer: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self._asked(WRITE, pointer + at, part, len(part))

    def give(self, descriptor: int, stays: bool = False) -> int:
        socket.send_fds(self._reply, [ANSWER.pack(GIVE, int(stays), 0, 0)], [descriptor])
        return self._status(self._reply.recv(CHUNK))

    def take(self, number: int) -> int:
        self._reply.send(ANSWER.pack(TAKE, 0, number & (1 << 64) - 1, 0))
        got, passed, _, _ = socket.recv_fds(self._reply, CHUNK, 1)
        self._status(got)
        if not passed:
            raise refuse(errno.EBADF)
        return passed[0]

    def _asked(self, kind: int, address: int, data: bytes = b"", size: int = 0) -> bytes:
        self._reply.send(ANSWER.pack(kind, 0, address, size) + data)
        got = self._reply.recv(CHUNK + 4)
        if self._status(got) or (kind == READ and len(got) != 4 + size):
            raise refuse(errno.EFAULT)
        return got[4:]

    @staticmethod
    def _status(got: bytes) -> int:
        """Return the number with which an answer starts. Raises OSError if it is an errno."""
        if len(got) < 4:
            raise refuse(errno.EFAULT)  # the program has ended
        (status,) = struct.unpack_from("<i", got)
        if status < 0:
            raise refuse(-status)
        return int(status)


class Request:
    """One request of a program, and the way back to it."""

    def __init__(self, message: bytes, passed: list[int]) -> None:
        """passed: the reply socket, and the file of a FILE request."""
        self.op, self.pid, self.number, self.size = REQUEST.unpack_from(message)
        self.argument = bytearray(message[REQUEST.size :])
        self._reply = socket.socket(fileno=passed[0])
        self.files = passed[1:]
        self.caller = OtherProcess(self._reply, self.pid)

    def answer(self, act: Act, note: Callable[[int], None]) -> None:
        """Send what `act` returns: (result, descriptors, offset), or the errno of its OSError.

        note: called with the result, or the negative errno, before the program has it.
        """
        passed: list[int] = []
        offset = 0
        try:
            if self.op in (IOCTL, FILE) and len(self.argument) != self.size:
                raise refuse(errno.EFAULT)  # an emulator sends what it can read
            result, passed, offset = act(self)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        note(result)
        answer = ANSWER.pack(DONE, result, offset, len(self.argument)) + self.argument
        with contextlib.suppress(OSError):  # the program has ended
            socket.send_fds(self._reply, [answer], passed)

    def close(self) -> None:
        self._reply.close()
        for file in self.files:
            os.close(file)


Act = Callable[[Request], tuple[int, list[int], int]]


class Connection:
    """A connected socket whose requests are answered: while one is, another thread waits."""

    def __init__(
        self,
        connection: socket.socket,
        answer: Callable[[Request], None],
        ended: Callable[[], None],
    ) -> None:
        """ended: called once, after the last request, when the last descriptor is closed."""
        self._socket, self._answer, self._ended = connection, answer, ended
        self._lock = threading.Lock()
        self._threads = self._waiting = 1

    def start(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while (request := self._received()) is not None:
            self._follow()
            try:
                self._answer(request)
            except Exception:  # a mistake of ours: the program gets ENODEV, the others go on
                sys.stderr.write(f"board: request {request.number:#x}: {traceback.format_exc()}")
            finally:
                request.close()
            with self._lock:
                self._waiting += 1
        with self._lock:
            self._threads -= 1
            last = self._threads == 0
        if last:
            self._socket.close()
            self._ended()

    def _received(self) -> Request | None:
        """Return the next request, None at the end; what is no request is thrown away."""
        while True:
            try:
                message, passed, _, _ = socket.recv_fds(self._socket, CHUNK, 2)
            except OSError:
                return None
            if len(message) >= REQUEST.size and passed:
                with contextlib.suppress(OSError):  # what was passed is no socket
                    return Request(message, list(passed))
            for file in passed:
                os.close(file)
            if not message:
                return None

    def _follow(self) -> None:
        """Start another thread, which waits for the next request."""
        with self._lock:
            self._waiting -= 1
            if self._waiting or self._threads == THREADS:
                return
            self._threads, self._waiting = self._threads + 1, 1
        threading.Thread(target=self._serve, daemon=True).start()
