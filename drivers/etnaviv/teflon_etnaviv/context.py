"""Run compiled programs on an opened etnaviv node, real or simulated."""

from __future__ import annotations

import ctypes
import errno
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from teflon import trace
from teflon.debug import enabled
from teflon.errors import DeviceError, ProgramError
from teflon.ir.types import Array
from teflon.pipe import Device, Winsys
from teflon_common.canary import Canary
from teflon_common.context import LoadedProgram, NodeContext, close_all
from teflon_common.drm import call
from teflon_common.recorder import recorded
from teflon_common.structs import pack_array
from teflon_etnaviv import cmdstream, uapi
from teflon_etnaviv.bodump import dump
from teflon_etnaviv.buffers import CURES, AddressHeap, BufferObject
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.program import ADDR32, STREAM, EtnavivProgram, Port, Reloc
from teflon_etnaviv.recorded import EtnavivDialect

# Ref: docs/hardware/etnaviv.md sections 2.2, 2.5, 6.5

CANARY_BYTES = 64


def identities(winsys: Winsys) -> list[Identity]:
    """Return what each core of a node says it is. Raises DeviceError where it does not say."""
    found = []
    for pipe in range(uapi.PIPES_MAX):
        model = _param(winsys, pipe, uapi.PARAM_MODEL, (errno.ENXIO, errno.EINVAL))
        if model is None:
            break
        rest = [_param(winsys, pipe, param, (errno.EINVAL,)) or 0 for param in _REST]
        found.append(Identity(model, *rest))
    return found


_REST = (uapi.PARAM_REVISION, uapi.PARAM_PRODUCT, uapi.PARAM_CUSTOMER, uapi.PARAM_ECO)
"""Kernels before DRM version 1.4 know only the first."""


def _param(winsys: Winsys, pipe: int, param: int, absent: tuple[int, ...]) -> int | None:
    """Return a number about a core; None for these errnos, by which a kernel says: no such."""
    argument = uapi.GetParam(pipe=pipe, param=param)
    try:
        return call(winsys, uapi.ETNAVIV, uapi.GET_PARAM, argument, CURES).value
    except DeviceError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in absent:
            return None
        raise


def patch(data: bytearray, reloc: Reloc, address: int) -> None:
    """Put an address where a reloc says."""
    word = int.from_bytes(data[reloc.offset : reloc.offset + 4], "little")
    target = address + reloc.addend
    new = target if reloc.kind == ADDR32 else word & ~0x3FFFFFF | target >> 6
    data[reloc.offset : reloc.offset + 4] = new.to_bytes(4, "little")


class EtnavivExecutable(LoadedProgram[EtnavivProgram, BufferObject]):
    """A program whose buffers exist at their addresses."""

    context: EtnavivContext

    def create(self, size: int) -> BufferObject:
        return BufferObject(self.context.winsys, self.context.heap, size)

    def upload(self) -> None:
        contents = [None if b.data is None else bytearray(b.data) for b in self.program.buffers]
        self.stream = bytearray(self.program.stream)
        for reloc in self.program.relocs:
            data = self.stream if reloc.buffer == STREAM else contents[reloc.buffer]
            if data is None:
                raise ProgramError(
                    f"program: an address goes to buffer {reloc.buffer}, which has no content"
                    " (the program is damaged: compile the model again)"
                )
            patch(data, reloc, self.buffers[reloc.target].address)
        for bo, content in zip(self.buffers, contents, strict=True):
            if content is not None:
                bo.prepare(uapi.PREP_WRITE)
                bo.memory[: len(content)] = np.frombuffer(content, np.uint8)
                bo.finish()
        self._dump()
        self.bos = pack_array(
            uapi.SubmitBo(
                flags=flags, handle=self.buffers[n].handle, presumed=self.buffers[n].address
            )
            for n, flags in self.program.bos
        )
        self.canaries = [self._canary(port) for port in self.program.output_ports]

    def _canary(self, port: Port) -> Canary | None:
        """Return the mark at the end of an output that the device writes."""
        if not self.stream or self.program.buffers[port.buffer].data is not None:
            return None
        end = port.offset + port.type.size_bytes
        start = max(port.offset, end - CANARY_BYTES)
        return Canary(self.buffers[port.buffer].memory[start:end])

    def _dump(self) -> None:
        counts: Counter[str] = Counter()
        for bo, buffer in zip(self.buffers, self.program.buffers, strict=True):
            dump(buffer.role, self.number, counts[buffer.role], bo.memory)
            counts[buffer.role] += 1
        dump("cmd", self.number, 0, self.stream)

    def store(self, inputs: Sequence[Array]) -> None:
        ports = self.program.input_ports
        buffers = [self.buffers[number] for number in dict.fromkeys(p.buffer for p in ports)]
        for bo in buffers:
            bo.prepare(uapi.PREP_WRITE)
        for canary in self.canaries:  # first: an output may lie where an input is
            if canary is not None:
                canary.put()
        for number, (port, array) in enumerate(zip(ports, inputs, strict=True)):
            port.store(array, self.buffers[port.buffer].memory)
            dump("input", self.number, number, self.buffers[port.buffer].memory)
        for bo in buffers:
            bo.finish()

    def start(self) -> None:
        if self.stream:
            try:
                with trace.span("submit", jobs=1), trace.labels(self.program.launches):
                    self.context.initialise()
                    self.context.send(self.stream, self.bos, len(self.program.bos))
            except DeviceError:
                self.pending = None  # nothing runs: there is nothing to wait for
                raise
        if enabled("sync") and self.pending is not None:
            self.pending.complete(self.context.deadline(self))

    def await_outputs(self, deadline_ns: int) -> None:
        for number in dict.fromkeys(port.buffer for port in self.program.output_ports):
            self.buffers[number].prepare(uapi.PREP_READ, deadline_ns)
            self.buffers[number].finish()

    def fetch(self) -> list[Array]:
        ports = self.program.output_ports
        for number, port in enumerate(ports):
            dump("output", self.number, number, self.buffers[port.buffer].memory)
            canary = self.canaries[number]
            if canary is not None and canary.alive():
                raise DeviceError(
                    f"etnaviv: output {number} {port.name!r} was not written by the device, must be"
                    " (a job hung or faulted, and the kernel reset the NPU: see the kernel log)"
                )
        return [port.fetch(self.buffers[port.buffer].memory) for port in ports]

    def free(self) -> None:
        """Close every buffer; addresses that the device may still use stay taken."""
        busy = self.pending is not None  # nobody saw the end of it
        self.canaries = []  # they look at the memory
        buffers, self.buffers = self.buffers, []
        close_all(lambda bo: bo.close(busy), reversed(buffers))


class EtnavivContext(NodeContext[EtnavivProgram, EtnavivExecutable]):
    """One open file of an etnaviv node; `seconds` limits an inference (None: no limit)."""

    def __init__(
        self,
        device: Device,
        winsys: Winsys,
        pipe: int = 0,
        seconds: float | None = None,
        record: str = "",
        variants: Mapping[str, str] | None = None,
    ) -> None:
        """record: a file that gets a recording of everything submitted when this is closed or the
        interpreter ends; variants: options that a replay needs. Raises OptionError for a folder
        that is not there.
        """
        winsys = recorded(
            winsys,
            record,
            EtnavivDialect(),
            device.chip,
            device.driver,
            options=dict(variants or {}),
        )
        super().__init__(device, winsys, EtnavivProgram, seconds, record)
        self.pipe = pipe
        self.heap = AddressHeap()
        self._ready = False
        self._pipe_lock = threading.Lock()

    def executable(self, program: EtnavivProgram, number: int) -> EtnavivExecutable:
        return EtnavivExecutable(self, program, number)

    def initialise(self) -> None:
        """Bring the pipe into a known state, once; again where that failed. Raises DeviceError."""
        with self._pipe_lock:
            if not self._ready:
                self.send(bytearray(cmdstream.init_stream()), bytearray(), 0)
                self._ready = True

    def send(self, stream: bytearray, bos: bytearray, count: int) -> None:
        """Submit a stream and the buffers it works on. Raises DeviceError."""
        words = (ctypes.c_char * len(stream)).from_buffer(stream)
        listed = (ctypes.c_char * max(len(bos), 1)).from_buffer(bos or bytearray(1))
        argument = uapi.Submit(
            pipe=self.pipe,
            nr_bos=count,
            stream_size=len(stream),
            stream=ctypes.addressof(words),
            bos=ctypes.addressof(listed) if count else 0,
            flags=uapi.SUBMIT_SOFTPIN,
        )
        call(self.winsys, uapi.ETNAVIV, uapi.GEM_SUBMIT, argument, CURES)
