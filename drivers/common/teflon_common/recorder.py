"""Record what we submit ourselves: a winsys around another one, real or simulated."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teflon.ir.types import Array
from teflon.pipe import Winsys
from teflon_common.recording import EMPTY, SUBMITS, Bytes, Dialect, NewBuffer, Pointer, Recording
from teflon_common.structs import Ioctl, Struct


@dataclass
class _Buffer:
    new: NewBuffer
    view: memoryview
    roles: set[str] = field(default_factory=set)
    kept: bytes = b""
    dumps: list[int] = field(default_factory=list)
    closed: bool = False


class Recorder(Winsys):
    """Passes everything on to another winsys and notes it.

    keeps_outputs: also what a buffer that the device only writes held before.
    """

    keeps_outputs = False

    def __init__(self, inner: Winsys, dialect: Dialect, device: str, driver: str) -> None:
        self._inner, self._dialect = inner, dialect
        self._lock = threading.RLock()
        self._meta = {"device": device, "driver": driver, "recorder": "teflon-npu"}
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

    def close(self) -> None:
        self._inner.close()

    def entry(self, ioctl: Ioctl, argument: Struct) -> dict[str, Any]:
        """Return what the log says about a request."""
        return self._dialect.entry(ioctl, argument)

    def view(self, new: NewBuffer) -> memoryview:
        """Return the memory of a buffer that was just made."""
        return self._inner.mmap(new.offset, new.size)

    def note_port(self, **port: Any) -> None:
        """Remember how a tensor lies in a buffer; `handle`, `kind` and what the driver needs."""
        self._ports.append(port)

    def _note(self, ioctl: Ioctl, argument: Struct) -> None:
        with self._lock:
            entry = {"seq": len(self._log), "ioctl": ioctl.name}
            self._log.append(entry | self.entry(ioctl, argument))
            if new := self._dialect.created(ioctl, argument):
                self._buffers.append(_Buffer(new, self.view(new)))
            if ioctl.name == "GEM_CLOSE":
                for buffer in self._alive():
                    if buffer.new.handle == argument.values()["handle"]:
                        buffer.closed, buffer.view = True, memoryview(b"")

    def _submit(self, ioctl: Ioctl, request: int, argument: bytearray) -> int:
        entry = {"seq": len(self._log), "ioctl": ioctl.name, "submit": self._submits}
        entry |= self.entry(ioctl, ioctl.struct.unpack(argument))
        self._log.append(entry)
        self._keep(entry)
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
            if buffer.new.address <= address < buffer.new.address + buffer.new.size:
                return buffer
        return None

    def _keep(self, entry: Mapping[str, Any]) -> None:
        """Store what the buffers of a submit hold: all but those that its jobs only write."""
        found: list[tuple[_Buffer, int, Pointer, _Buffer]] = []
        used: dict[int, _Buffer] = {}
        for address, size in self._dialect.commands(entry):
            if (commands := self._find(address)) is None:
                continue
            start = address - commands.new.address
            commands.roles.add("regcmd")
            used[commands.new.handle] = commands
            for pointer in self._dialect.pointers(_array(commands.view[start : start + size])):
                if target := self._find(pointer.address):
                    target.roles.add(pointer.role)
                    used[target.new.handle] = target
                    found.append((commands, start + pointer.offset, pointer, target))
        for buffer in used.values():
            if self.keeps_outputs or "output" not in buffer.roles:
                self._dump(buffer)
        for commands, offset, pointer, target in found:
            key = f"bo_{commands.new.handle}_{commands.dumps[-1]}"
            target_offset = pointer.address - target.new.address
            reloc = [key, offset, pointer.kind, target.new.handle, target_offset]
            self._relocs[key, offset] = reloc

    def _dump(self, buffer: _Buffer) -> None:
        content = bytes(buffer.view)
        if buffer.dumps and content == buffer.kept:
            return
        buffer.kept = content
        buffer.dumps.append(self._submits)
        self._arrays[f"bo_{buffer.new.handle}_{self._submits}"] = _array(content)

    def recording(self) -> Recording:
        """Return what was noted so far."""
        with self._lock:
            bos = [
                {
                    "handle": b.new.handle, "size": b.new.size, "flags": 0, "addr": b.new.address,
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
