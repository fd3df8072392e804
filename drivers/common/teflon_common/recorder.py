"""Recording our own requests: a winsys around another one, real or simulated."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from teflon import forks
from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.pipe import Timeline, Winsys
from teflon_common.caller import copy_from_user
from teflon_common.recording import EMPTY, SUBMITS, Bytes, Dialect, NewBuffer, Pointer, Recording
from teflon_common.structs import Ioctl, Struct


@dataclass
class _Buffer:
    new: NewBuffer
    view: memoryview
    address: int | None
    roles: set[str] = field(default_factory=set)
    kept: bytes = b""
    dumps: list[int] = field(default_factory=list)
    closed: bool = False


class Recorder(Winsys):
    """A winsys that passes all requests to another one and records them.

    keeps_outputs: also record the old content of buffers that the device only writes.
    """

    keeps_outputs = False

    def __init__(self, inner: Winsys, dialect: Dialect, device: str, driver: str) -> None:
        self._inner, self._dialect = inner, dialect
        self._lock = forks.rlock()
        self._meta: dict[str, Any] = {"device": device, "driver": driver, "recorder": "teflon-npu"}
        self._log: list[dict[str, Any]] = [
            {"seq": 0, "ioctl": "START", "device": device, "driver": driver, "addr_salt": 0},
            {"ioctl": "MARK", "what": "model"},
        ]
        self._buffers: list[_Buffer] = []
        self._arrays: dict[str, Array] = {}
        self._relocs: dict[tuple[str, int], list[Any]] = {}
        self._ports: list[dict[str, Any]] = []
        self._submits = 0

    def ioctl(self, request: int, argument: bytearray) -> int:
        ioctl = self._dialect.interface.find(request)
        if ioctl is None:
            return self._inner.ioctl(request, argument)
        if ioctl.name not in SUBMITS:
            result = self._inner.ioctl(request, argument)
            self._note(ioctl, ioctl.struct.unpack(argument))
            return result
        with self._lock:
            return self._submit(ioctl, request, argument)

    def mmap(self, offset: int, size: int) -> memoryview:
        return self._inner.mmap(offset, size)

    @property
    def timeline(self) -> Timeline | None:
        return self._inner.timeline

    def close(self) -> None:
        self._inner.close()

    @property
    def submits(self) -> int:
        """How many submits were recorded."""
        return self._submits

    @property
    def has_buffers(self) -> bool:
        """Whether a program was loaded."""
        return bool(self._buffers)

    def entry(self, ioctl: Ioctl, argument: Struct) -> dict[str, Any]:
        """Return the log's fields for a request."""
        return self._dialect.entry(ioctl, argument)

    def stream(self, ioctl: Ioctl, argument: Struct) -> bytes | None:
        """Return the commands in a submit itself."""
        return self._dialect.stream(ioctl, argument)

    def view(self, new: NewBuffer) -> memoryview:
        """Return the memory of a buffer whose mmap offset is known."""
        assert new.offset is not None
        return self._inner.mmap(new.offset, new.size)

    def user_memory(self, pointer: int, size: int) -> bytes:
        """Return memory of the program; nothing where it cannot be read."""
        try:
            return copy_from_user(pointer, size)
        except OSError:
            return b""

    def add_result(self, handle: int, data: bytes) -> None:
        """Record the content of a buffer after a wait, if it is an output of a submit."""
        outputs = {b.new.handle for b in self._alive() if "output" in b.roles}
        if self._submits and handle in outputs:
            self._arrays[f"after_{handle}_{self._submits - 1}"] = np.frombuffer(data, np.uint8)

    def note(self, **about: Any) -> None:
        """Add fields to `meta`."""
        self._meta |= about

    def note_port(self, **port: Any) -> None:
        """Add the place of a tensor in a buffer: `handle`, `kind` and fields of the driver."""
        self._ports.append(port)

    def _note(self, ioctl: Ioctl, argument: Struct) -> None:
        with self._lock:
            entry = {"seq": len(self._log), "ioctl": ioctl.name}
            self._log.append(entry | self.entry(ioctl, argument))
            if new := self._dialect.created(ioctl, argument):
                view = memoryview(b"") if new.offset is None else self.view(new)
                self._buffers.append(_Buffer(new, view, new.address))
            if found := self._dialect.mapped(ioctl, argument):
                self._map(*found)
            if ioctl.name == "GEM_CLOSE":
                for buffer in self._alive():
                    if buffer.new.handle == argument.values()["handle"]:
                        buffer.closed, buffer.view = True, memoryview(b"")

    def _map(self, handle: int, offset: int) -> None:
        for buffer in self._alive():
            if buffer.new.handle == handle and buffer.new.offset is None:
                buffer.new = replace(buffer.new, offset=offset)
                with contextlib.suppress(OSError):  # some buffers cannot be mapped
                    buffer.view = self.view(buffer.new)

    def _submit(self, ioctl: Ioctl, request: int, argument: bytearray) -> int:
        entry = {"seq": len(self._log), "ioctl": ioctl.name, "submit": self._submits}
        entry |= self.entry(ioctl, ioctl.struct.unpack(argument))
        self._log.append(entry)
        self._keep(entry, self.stream(ioctl, ioctl.struct.unpack(argument)))
        self._submits += 1
        try:
            result = self._inner.ioctl(request, argument)
        except OSError as error:
            entry["errno"] = error.errno
            raise
        entry["errno"] = 0
        return result

    def _alive(self) -> Iterator[_Buffer]:
        return (b for b in self._buffers if not b.closed)

    def _find(self, address: int) -> _Buffer | None:
        for buffer in self._alive():
            start = buffer.address
            if start is not None and start <= address < start + buffer.new.size:
                return buffer
        return None

    def _keep(self, entry: Mapping[str, Any], stream: bytes | None) -> None:
        """Store the content of a submit's buffers, except those that its jobs only write."""
        placed = dict(self._dialect.placed(entry))
        for buffer in self._alive():
            buffer.address = placed.get(buffer.new.handle, buffer.address)
        walk = _Walk(self._dialect, self._find, self._content)
        for address, size in self._dialect.commands(entry):
            if (commands := self._find(address)) is not None:
                walk.list(commands, address - _address(commands), size, "regcmd")
        if stream is not None:
            self._arrays[f"stream_{self._submits}"] = _array(stream)
            walk.content(None, 0, _array(stream), "stream")
        inputs = {port["handle"] for port in self._ports if port.get("kind") == "input"}
        for handle, buffer in walk.used.items():
            if self.keeps_outputs or "output" not in buffer.roles or handle in inputs:
                self._dump(buffer)
        for holder, offset, pointer, target in walk.found:
            key = f"stream_{self._submits}"
            if holder is not None:
                key = f"bo_{holder.new.handle}_{holder.dumps[-1]}"
            reloc = [key, offset, pointer.kind, target.new.handle,
                     pointer.address - _address(target) + pointer.low]  # fmt: skip
            self._relocs[key, offset] = reloc

    def _content(self, buffer: _Buffer) -> bytes:
        if buffer.new.pointer is not None:
            return self.user_memory(buffer.new.pointer, buffer.new.size)
        return bytes(buffer.view)

    def _dump(self, buffer: _Buffer) -> None:
        content = self._content(buffer)
        if buffer.dumps and content == buffer.kept:
            return
        buffer.kept = content
        buffer.dumps.append(self._submits)
        self._arrays[f"bo_{buffer.new.handle}_{self._submits}"] = _array(content)

    def recording(self) -> Recording:
        """Return the recording of all requests so far."""
        with self._lock:
            bos = [
                {
                    "handle": b.new.handle, "size": b.new.size, "flags": 0, "addr": b.address,
                    "roles": sorted(b.roles), "of_model": True, "closed": b.closed,
                    "dumps": b.dumps,
                }
                for b in self._buffers
            ]  # fmt: skip
            mine = {"log": self._log, "bos": bos, "relocs": list(self._relocs.values()),
                    "ports": self._ports, "sizes": self._sizes()}  # fmt: skip
            meta = json.loads(json.dumps({**EMPTY, **self._meta, **mine}))
            return Recording(meta, dict(self._arrays))

    def _sizes(self) -> dict[str, int]:
        jobs = [job for e in self._log if e["ioctl"] == "SUBMIT" for job in e["jobs"]]
        return {
            "bo_count": len(self._buffers),
            "bo_total": sum(b.new.size for b in self._buffers),
            "weights": sum(b.new.size for b in self._buffers if "weights" in b.roles),
            "biases": sum(b.new.size for b in self._buffers if "biases" in b.roles),
            "jobs": len(jobs),
            "units": sum(len(job["tasks"]) for job in jobs),
            "submits": self._submits,
        }


def _array(data: bytes | memoryview) -> Bytes:
    return np.frombuffer(bytes(data), np.uint8)


def _address(buffer: _Buffer) -> int:
    assert buffer.address is not None, "was found by its address"
    return buffer.address


@dataclass
class _Walk:
    """Finds all buffers that a submit uses, by following the addresses in its commands."""

    dialect: Dialect
    find: Callable[[int], _Buffer | None]
    content_of: Callable[[_Buffer], bytes]
    used: dict[int, _Buffer] = field(default_factory=dict)
    found: list[tuple[_Buffer | None, int, Pointer, _Buffer]] = field(default_factory=list)

    def list(self, buffer: _Buffer, start: int, size: int, role: str) -> None:
        """Follow the commands in a buffer."""
        buffer.roles.add(role)
        self.used[buffer.new.handle] = buffer
        if buffer.new.pointer is not None:
            found = self.content_of(buffer)[start : start + size]
        else:
            found = bytes(buffer.view[start : start + size])
        self.content(buffer, start, _array(found), role)

    def content(self, holder: _Buffer | None, start: int, data: Bytes, role: str) -> None:
        """Follow commands; `holder` is the buffer that contains them, None for a stream."""
        for pointer in self.dialect.pointers(data, role):
            if (target := self.find(pointer.address)) is None:
                continue
            target.roles.add(pointer.role)
            self.used[target.new.handle] = target
            self.found.append((holder, start + pointer.offset, pointer, target))
            if size := self.dialect.nested(pointer.role):
                self.list(target, pointer.address - _address(target), size, pointer.role)


def recorded(
    winsys: Winsys, record: str, dialect: Dialect, device: str, driver: str, **notes: Any
) -> Winsys:
    """Return a winsys that records all requests, or the same winsys if `record` is "".

    record: the path of the file. device, driver, notes: fields of the recording's `meta`. Raises
    OptionError if `record` is a folder or lies in a folder that does not exist.
    """
    if not record:
        return winsys
    if not Path(record).absolute().parent.is_dir():
        raise OptionError(f"option record: {record}: its folder must exist, does not")
    if Path(record).is_dir():
        raise OptionError(f"option record: {record}: is a folder, must be a file")
    recorder = Recorder(winsys, dialect, device, driver)
    recorder.note(**notes)
    return recorder


def finish(winsys: Winsys, record: str, owner: int) -> None:
    """Close a context's winsys, and write the recording if this process opened the winsys.

    Nothing is written if nothing was loaded: a model that is refused leaves no file.
    """
    winsys.close()
    if isinstance(winsys, Recorder) and winsys.has_buffers and os.getpid() == owner:
        winsys.recording().save(record)
