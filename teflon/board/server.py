"""Serving device nodes: sockets below a folder, and what answers behind them."""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teflon.board.connection import FILE, IOCTL, MMAP, OPEN, Connection, Request
from teflon.board.faults import Faults
from teflon.pipe import OpenFile, VirtualNode, refuse

_CARD = "/dev/dri/card"
"""In the path of a primary node."""

Keep = Callable[["ServedNode", bytes], None]
"""Called with the recording of an open file when it is closed."""


@dataclass
class ServedNode:
    """A node that programs can open."""

    path: str  # "/dev/accel/accel0"
    node: VirtualNode
    opens: int = 0
    files: list[OpenFile] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def paths(self) -> list[str]:
        """The node, and for /dev/dri/renderD128 the primary node /dev/dri/card0 beside it.

        Ref: Linux, drivers/gpu/drm/drm_drv.c (drm_dev_init: all drivers but those of DRM_ACCEL have
        a primary node; etnaviv has one that shows no picture)
        """
        found = re.fullmatch(r"/dev/dri/renderD(\d+)", self.path)
        number = int(found[1]) - 128 if found else -1
        return [self.path, f"/dev/dri/card{number}"] if number >= 0 else [self.path]

    def status(self) -> dict[str, Any]:
        """Return what is open, and the complaints of the kernel."""
        with self.lock:
            states = [file.status() for file in self.files]
            return {
                "opens": self.opens,
                "files": len(states),
                "handles": sum(state["handles"] for state in states),
                "bytes": sum(state["bytes"] for state in states),
                "complaints": self.node.kernel.complaints,
            }


class Server:
    """Answers the requests of all programs on a board."""

    def __init__(
        self,
        nodes: Sequence[ServedNode],
        faults: Faults,
        *,
        keep: Keep | None = None,
        log: bool = False,
    ) -> None:
        """keep: record all open files. log: show every request on stderr."""
        self.nodes, self.faults, self._keep, self._log = nodes, faults, keep, log
        self._lock, self._kept = threading.Lock(), weakref.WeakSet[OpenFile]()
        for served in nodes:
            served.node.kernel.before_job = faults.meet_job

    def start(self, root: Path) -> None:
        """Make the sockets of the nodes below a folder, and serve them. Raises OSError."""
        for served in self.nodes:
            for path in served.paths:
                self._accept(bound(root, path[1:]), functools.partial(self._opened, served))
            for path in served.paths[1:]:
                (root / path[1:]).chmod(0o660)  # as udev does: not for everybody
        self._accept(bound(root, "files"), self._file)

    @staticmethod
    def _accept(listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        def serve() -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:  # no descriptor is left: programs wait until one is
                    time.sleep(0.01)
                else:
                    take(connection)

        threading.Thread(target=serve, daemon=True).start()

    def _opened(self, served: ServedNode, connection: socket.socket) -> None:
        primary = _CARD in str(connection.getsockname())
        file = _File(self, served, primary)
        Connection(connection, file.answer, file.close).start()

    def _file(self, connection: socket.socket) -> None:
        Connection(connection, self._answer_file, lambda: None).start()

    def _answer_file(self, request: Request) -> None:
        """Answer an ioctl of a dma_buf or a sync file: the kernel answers that made it."""

        def act(request: Request) -> tuple[int, list[int], int]:
            for served in self.nodes if request.op == FILE and request.files else ():
                kernel = served.node.kernel
                try:
                    result = kernel.file_ioctl(
                        request.files[0], request.number, request.argument, request.caller
                    )
                except OSError as error:
                    if error.errno != errno.ENOTTY:
                        raise
                else:
                    return result, [], 0
            raise refuse(errno.ENOTTY)

        request.answer(act, lambda _: None)

    def settle(self, seconds: float) -> list[str]:
        """Wait for programs that have ended to be noticed; return the nodes that are still open.

        Recordings of files that are still open are kept as they are now.
        """
        end = time.monotonic() + seconds
        while (left := [n for n in self.nodes if n.files]) and time.monotonic() < end:
            time.sleep(0.002)
        for served in left:
            with served.lock:
                files = list(served.files)
            for file in files:
                self.closed(served, file)
        return [served.path for served in left]

    def show(self, served: ServedNode, request: Request, name: str, result: int) -> None:
        """Note a request for the control socket, and show it."""
        self.faults.note(name, result)
        if self._log:
            text = name
            if request.op == IOCTL:
                text = served.node.kernel.decode(request.number, request.argument)
            said = errno.errorcode.get(-result, str(result)) if result < 0 else str(result)
            with suppress(OSError, ValueError):  # who reads the log may have gone
                sys.stderr.write(f"{request.pid} {served.path} {text} = {said}\n")

    def closed(self, served: ServedNode, file: OpenFile) -> None:
        """Keep the recording of a file that is to be closed, once."""
        with self._lock:
            if self._keep is None or file in self._kept:
                return
            self._kept.add(file)
            if (data := file.recording()) is not None:
                self._keep(served, data)

    @property
    def records(self) -> bool:
        return self._keep is not None


class _File:
    """One open file of a node."""

    def __init__(self, server: Server, served: ServedNode, primary: bool) -> None:
        self._server, self._served, self._primary = server, served, primary
        self._file: OpenFile | None = None

    def answer(self, request: Request) -> None:
        kernel = self._served.node.kernel
        named = {OPEN: "OPEN", MMAP: "MMAP"}
        name = named.get(request.op) or kernel.request_name(request.number)

        def act(request: Request) -> tuple[int, list[int], int]:
            self._server.faults.meet(name)
            try:
                return self._act(request)
            except OSError:
                raise
            except Exception as error:  # a bug of the kernel must not leave the program waiting
                kernel.complaints.append(f"{name}: failed with {type(error).__name__}: {error}")
                raise refuse(errno.EIO) from error

        request.answer(act, lambda result: self._server.show(self._served, request, name, result))

    def _act(self, request: Request) -> tuple[int, list[int], int]:
        if request.op == OPEN:
            self._open()
            return 0, [], 0
        if self._file is None:
            raise refuse(errno.EBADF)
        if request.op == MMAP:
            descriptor, offset = self._file.memory(request.number, request.size)
            return 0, [descriptor], offset
        return self._file.ioctl(request.number, request.argument, request.caller), [], 0

    def _open(self) -> None:
        with self._served.lock:
            self._served.opens += 1
            kernel, records = self._served.node.kernel, self._server.records
            self._file = (
                kernel.open(records, primary=True) if self._primary else kernel.open(records)
            )
            self._served.files.append(self._file)

    def close(self) -> None:
        if self._file is None:
            return
        try:
            self._server.closed(self._served, self._file)
            self._file.close()
        except Exception as error:  # the node stays usable
            self._served.node.kernel.complaints.append(
                f"CLOSE: failed with {type(error).__name__}: {error}"
            )
        with self._served.lock:
            self._served.files.remove(self._file)


def bound(root: Path, name: str, kind: int = socket.SOCK_SEQPACKET) -> socket.socket:
    """Return a listening socket below a folder, which may have a long path.

    Its address begins with /proc/self/fd: by that the shim knows the descriptors of nodes, also in
    a container that sees the folder at another place.
    """
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(f"/proc/self/fd/{folder}/{name}")
        path.chmod(0o666)
        listener.listen(64)
    finally:
        os.close(folder)
    return listener
