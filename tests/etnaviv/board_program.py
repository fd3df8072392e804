"""A program on a virtual board that makes its requests itself; it prints what went right, as JSON.

Run as `python -m tests.etnaviv.board_program NODE`.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable

import numpy as np

from teflon.ir import interpreter
from teflon.pipe import Winsys
from teflon_common.drm import DrmWinsys
from teflon_etnaviv import uapi
from teflon_etnaviv.chips import npu_pipe
from teflon_etnaviv.context import identities
from tests.etnaviv.client import (
    Loaded,
    Pages,
    Submit,
    ask,
    bo,
    close,
    code,
    compiled,
    graph,
    soon,
)

PROGRAM, X, WANT = compiled()


def chosen(winsys: Winsys) -> bool:
    """The program chooses the addresses."""
    loaded = Loaded(winsys, PROGRAM)
    loaded.store(X)
    loaded.send()
    return close(loaded.fetch(), WANT)


def relocated(winsys: Winsys) -> bool:
    """The kernel puts addresses into the stream."""
    loaded = Loaded(winsys, PROGRAM)
    loaded.store(X)
    Submit(loaded.listed()).send(winsys)
    listed = [bo(entry.handle, 0, entry.flags) for entry in loaded.listed()]
    Submit(listed, loaded.relocs(), commands=loaded.stream, flags=0).send(winsys)
    return close(loaded.fetch(), WANT)


def user_memory(winsys: Winsys) -> bool:
    """Input and output are memory of the program; jobs are chained by sync files."""
    ports = (*PROGRAM.input_ports, *PROGRAM.output_ports)
    sizes = {port.buffer: -(-PROGRAM.buffers[port.buffer].size // 4096) * 4096 for port in ports}
    loaded = Loaded(winsys, PROGRAM, {number: Pages(size) for number, size in sizes.items()})
    loaded.store(X)
    out = uapi.SUBMIT_SOFTPIN | uapi.SUBMIT_FENCE_FD_OUT
    first = loaded.send(flags=out).fence_fd
    last = loaded.send(flags=out | uapi.SUBMIT_FENCE_FD_IN, fence_fd=first)
    ready = select.select([last.fence_fd], [], [], 20)[0] == [last.fence_fd]
    ask(winsys, uapi.WAIT_FENCE, uapi.WaitFence(fence=last.fence, **soon()))
    (port,) = PROGRAM.output_ports
    kind = port.type
    have = port.place(loaded.views[port.buffer]).fetch(np.empty(kind.shape, kind.dtype.numpy))
    return ready and close(have, WANT)


def forked(winsys: Winsys) -> bool:
    """A child uses the open file and the memory of its parent."""
    assert isinstance(winsys, DrmWinsys)
    loaded = Loaded(winsys, PROGRAM)
    child = os.fork()
    if child == 0:
        winsys._owner = os.getpid()  # the kernel does not mind
        loaded.store(X)
        loaded.send()
        os._exit(0 if close(loaded.fetch(), WANT) else 1)
    good = os.waitpid(child, 0)[1] == 0
    loaded.store(255 - X)
    loaded.send()
    return good and close(loaded.fetch(), interpreter.run(graph(), [255 - X])[0])


def refused(winsys: Winsys) -> bool:
    """Bad pointers are the program's own fault, wherever they point."""
    asked = uapi.GemUserptr(user_ptr=4096, user_size=4096, flags=1)
    handle = ask(winsys, uapi.GEM_USERPTR, asked).handle
    return [
        Submit(nr_bos=1, bos=(1 << 64) - 8).code(winsys),
        Submit(stream_size=8, stream=8).code(winsys),
        Submit([bo(handle, 0x800000)]).code(winsys),
        code(winsys, uapi.GET_PARAM, uapi.GetParam(param=0x1F)),
        Submit(flags=10, fence_fd=999).code(winsys),
    ] == ["EFAULT", "EFAULT", "EFAULT", "EINVAL", "EINVAL"]


WAYS: tuple[Callable[[Winsys], bool], ...] = (chosen, relocated, user_memory, forked, refused)


def main(node: str) -> None:
    done = {}
    for way in WAYS:
        winsys = DrmWinsys(node)
        assert isinstance(npu_pipe(identities(winsys)), tuple), "asks which chip this is"
        done[way.__name__] = way(winsys)
        winsys.close()
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1])
