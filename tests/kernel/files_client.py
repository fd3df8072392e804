"""A program that knows nothing of Teflon: it shares buffers and fences through a board's nodes.

Usage: files_client.py share|fences|hang. It prints one JSON object.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys
import time
from typing import Any

ACCEL, RENDER = "/dev/accel/accel0", "/dev/dri/renderD128"
CREATE_BO, SUBMIT, PREP_BO, GEM_NEW = 0xC0186440, 0x40186441, 0x40106442, 0xC0106442
GEM_CLOSE, TO_FD, TO_HANDLE, GET_CLIENT = 0x40086409, 0xC00C642D, 0xC00C642E, 0xC0286405
SYNC, EXPORT, IMPORT = 0x40086200, 0xC0086202, 0x40086203
MERGE, INFO = 0xC0303E03, 0xC0383E04
CLOEXEC, RDWR = os.O_CLOEXEC, os.O_RDWR


def ask(fd: int, request: int, layout: str, *values: Any) -> tuple[Any, ...]:
    data = bytearray(struct.pack(layout, *values))
    fcntl.ioctl(fd, request, data, True)
    return struct.unpack(layout, data)


def code(fd: int, request: int, layout: str, *values: Any) -> str:
    try:
        ask(fd, request, layout, *values)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "0"


def create(fd: int) -> tuple[int, int, int]:
    """Return handle, device address and mmap offset."""
    _, handle, address, offset = ask(fd, CREATE_BO, "<IIQQ", 4096, 0, 0, 0)
    return handle, address, offset


def share() -> dict[str, Any]:
    one, two, render = os.open(ACCEL, RDWR), os.open(ACCEL, RDWR), os.open(RENDER, RDWR)
    handle, _, offset = create(one)
    fd = ask(one, TO_FD, "<IIi", handle, RDWR | CLOEXEC, -1)[2]
    memory = mmap.mmap(one, 4096, offset=offset)
    shared = mmap.mmap(fd, 4096)
    shared[7] = 42
    there = ask(two, TO_HANDLE, "<IIi", 0, 0, fd)[0]
    foreign = ask(render, TO_HANDLE, "<IIi", 0, 0, fd)[0]
    back = ask(render, TO_FD, "<IIi", foreign, 0, -1)[2]
    new = ask(render, GEM_NEW, "<QII", 4096, 0x10000, 0)[2]
    other = ask(render, TO_FD, "<IIi", new, RDWR, -1)[2]
    ours, theirs = socket.socketpair()
    if not os.fork():  # another process takes the dma_buf
        passed = socket.recv_fds(theirs, 1, 1)[1][0]
        own = os.open(ACCEL, RDWR)
        handle = ask(own, TO_HANDLE, "<IIi", 0, 0, passed)[0]
        mmap.mmap(passed, 4096)[8] = handle + 100
        os._exit(0)
    socket.send_fds(ours, [b"x"], [fd])
    os.wait()
    return {
        "memory": [memory[7], memory[8]],
        "size": os.lseek(fd, 0, os.SEEK_END),
        "handles": [handle, there, foreign, ask(one, TO_HANDLE, "<IIi", 0, 0, back)[0]],
        "foreign": code(one, TO_HANDLE, "<IIi", 0, 0, other),
        "no dma_buf": code(one, TO_HANDLE, "<IIi", 0, 0, sys.stdout.fileno()),
        "closed": code(one, TO_HANDLE, "<IIi", 0, 0, 999),
        "unknown": code(one, TO_FD, "<IIi", 999, 0, -1),
        "client": ask(one, GET_CLIENT, "<iiQQQQ", 0, 0, 0, 0, 0, 0)[2] == os.getpid(),
    }


def submit(fd: int, write: int, address: int) -> None:
    """Submit a job that writes a buffer, with a command list of zeros."""
    task, handles = mmap.mmap(-1, 4096), mmap.mmap(-1, 4096)
    task[:8], handles[:4] = struct.pack("<II", address, 8), struct.pack("<I", write)
    job = mmap.mmap(-1, 4096)
    pointers = [at(task), 0, at(handles)]
    job[:40] = struct.pack("<QQQIIII", *pointers, 1, 8, 0, 1)
    ask(fd, SUBMIT, "<QIIQ", at(job), 1, 40, 0)


def at(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def info(fd: int) -> tuple[int, int]:
    """Return status and number of fences of a sync file."""
    _, status, _, fences, _, _ = ask(fd, INFO, "<32siIIIQ", b"", 0, 0, 0, 0, 0)
    return status, fences


def fences() -> dict[str, Any]:
    node = os.open(ACCEL, RDWR)
    (write, _, _), (_, address, _) = create(node), create(node)
    buffer = ask(node, TO_FD, "<IIi", write, RDWR, -1)[2]
    submit(node, write, address)  # it is late, says the board's rule
    done = ask(buffer, EXPORT, "<Ii", 1, -1)[1]
    merged = ask(done, MERGE, "<32siiII", b"both", done, -1, 0, 0)[2]
    poll = select.poll()
    poll.register(merged, select.POLLIN | select.POLLOUT)
    before = info(done), poll.poll(0)
    start = time.monotonic()
    ask(buffer, SYNC, "<Q", 1)
    waited = time.monotonic() - start
    ask(buffer, IMPORT, "<Ii", 1, done)
    return {
        "before": [list(before[0]), before[1]],
        "waited": waited > 0.1,
        "after": [info(merged)[0] != 0, [event for _, event in poll.poll(5000)]],
        "errors": [code(done, SYNC, "<Q", 1), code(buffer, SYNC, "<Q", 0),
                   code(done, MERGE, "<32siiII", b"", 999, 0, 0, 0)],
    }  # fmt: skip


def hang() -> dict[str, Any]:
    node = os.open(ACCEL, RDWR)
    (write, _, _), (_, address, _) = create(node), create(node)
    ask(node, TO_FD, "<IIi", write, RDWR, -1)
    submit(node, write, address)
    print(json.dumps({"submitted": True}), flush=True)
    ask(node, PREP_BO, "<IIq", write, 0, (1 << 63) - 1)
    return {"waited": True}


if __name__ == "__main__":
    print(json.dumps({"share": share, "fences": fences, "hang": hang}[sys.argv[1]]()))
