"""Run compiled programs on an opened etnaviv node, real or simulated.

One program has one set of buffers, so `submit` first finishes the inference before it of the same
program; different programs overlap freely.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from teflon import trace
from teflon.debug import enabled
from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Program, Winsys
from teflon_common.context import LockedFence, check_inputs, checked_program, close_all
from teflon_common.drm import call
from teflon_common.program import port_to_json
from teflon_common.recorder import Recorder, finish
from teflon_common.structs import pack_array
from teflon_etnaviv import cmdstream, uapi
from teflon_etnaviv.bodump import dump
from teflon_etnaviv.buffers import CURES, FOREVER_NS, AddressHeap, BufferObject
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.program import ADDR32, STREAM, EtnavivProgram, Reloc
from teflon_etnaviv.recorded import EtnavivDialect

# Ref: docs/hardware/etnaviv.md sections 2.2, 2.5, 6.5


def identities(winsys: Winsys) -> list[Identity]:
    """Return what each core of a node says it is."""
    found = []
    for pipe in range(uapi.PIPES_MAX):
        try:
            values = [_param(winsys, pipe, uapi.PARAM_MODEL), _param(winsys, pipe, 2)]
        except DeviceError:
            break
        for param in (uapi.PARAM_PRODUCT, uapi.PARAM_CUSTOMER, uapi.PARAM_ECO):
            try:
                values.append(_param(winsys, pipe, param))
            except DeviceError:  # kernels before DRM version 1.4
                values.append(0)
        found.append(Identity(*values))
    return found


def _param(winsys: Winsys, pipe: int, param: int) -> int:
    argument = uapi.GetParam(pipe=pipe, param=param)
    return call(winsys, uapi.ETNAVIV, uapi.GET_PARAM, argument, CURES).value


def patch(data: bytearray, reloc: Reloc, address: int) -> None:
    """Put an address where a reloc says."""
    word = int.from_bytes(data[reloc.offset : reloc.offset + 4], "little")
    target = address + reloc.addend
    new = target if reloc.kind == ADDR32 else word & ~0x3FFFFFF | target >> 6
    data[reloc.offset : reloc.offset + 4] = new.to_bytes(4, "little")


class EtnavivExecutable(Executable):
    """A program whose buffers exist; `lock` guards them, `pending` is the inference under way."""

    def __init__(self, context: EtnavivContext, program: EtnavivProgram) -> None:
        """Create the buffers in order, patch addresses, upload. Raises DeviceError."""
        self.program: EtnavivProgram = program
        self.number = context.count()
        self.lock = threading.Lock()
        self.pending: EtnavivFence | None = None
        self.closed = False
        self.buffers: list[BufferObject] = []
        self.context = context
        try:
            for buffer in program.buffers:
                self.buffers.append(BufferObject(context.winsys, context.heap, buffer.size))
            self._upload()
        except TeflonError:
            self._free()
            raise

    def _upload(self) -> None:
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
        if isinstance(self.context.winsys, Recorder):
            self._note_ports(self.context.winsys)
        self.bos = pack_array(
            uapi.SubmitBo(
                flags=flags, handle=self.buffers[n].handle, presumed=self.buffers[n].address
            )
            for n, flags in self.program.bos
        )

    def _note_ports(self, recorder: Recorder) -> None:
        """Let a recording know how the tensors lie in buffers."""
        program = self.program
        for kind, ports in (("input", program.input_ports), ("output", program.output_ports)):
            for port in ports:
                recorder.note_port(
                    handle=self.buffers[port.buffer].handle, kind=kind, name=port.name,
                    port=port_to_json(port),
                )  # fmt: skip

    def _dump(self) -> None:
        counts: Counter[str] = Counter()
        for bo, buffer in zip(self.buffers, self.program.buffers, strict=True):
            dump(buffer.role, self.number, counts[buffer.role], bo.memory)
            counts[buffer.role] += 1
        dump("cmd", self.number, 0, self.stream)

    def close(self) -> None:
        """Finish what is under way, then free the buffers."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.context.forget(self)
            try:
                if self.pending is not None:
                    self.pending.complete(self.context.deadline())
            finally:
                self._free()

    def _free(self) -> None:
        buffers, self.buffers = self.buffers, []
        if os.getpid() == self.context.owner:  # a forked child must not free its parent's
            close_all(BufferObject.close, reversed(buffers))


class EtnavivFence(LockedFence):
    """One inference of an executable."""

    def __init__(self, executable: EtnavivExecutable, context: EtnavivContext) -> None:
        super().__init__("etnaviv", executable.lock)
        self._executable, self.context = executable, context

    def deadline(self) -> int:
        return self.context.deadline()

    def complete(self, deadline_ns: int) -> None:
        executable = self._executable
        ports = executable.program.output_ports
        try:
            with trace.span("wait", program=executable.number):
                for number in dict.fromkeys(port.buffer for port in ports):
                    bo = executable.buffers[number]
                    bo.prepare(uapi.PREP_READ, deadline_ns)
                    bo.finish()
            with trace.span("convert outputs", program=executable.number):
                self._outputs = [p.fetch(executable.buffers[p.buffer].memory) for p in ports]
            for number, port in enumerate(ports):
                dump("output", executable.number, number, executable.buffers[port.buffer].memory)
        except DeviceTimeout:
            raise
        except TeflonError as error:
            self._error = error
        executable.pending = None


class EtnavivContext(Context):
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
        if record and not Path(record).absolute().parent.is_dir():
            raise OptionError(f"option record: {record}: its folder must exist, does not")
        if record:
            winsys = recorder = Recorder(winsys, EtnavivDialect(), device.chip, device.driver)
            recorder.note(options=dict(variants or {}))
        self.device, self.winsys, self.pipe = device, winsys, pipe
        self._finalizer = weakref.finalize(self, finish, winsys, record, os.getpid())
        self.heap = AddressHeap()
        self.owner = os.getpid()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._executables: list[EtnavivExecutable] = []
        self._loaded = itertools.count()
        self._ready = False
        self._closed = False

    def count(self) -> int:
        """Return how many programs were loaded before this one."""
        return next(self._loaded)

    def deadline(self) -> int:
        """Return when an inference that starts now must be done, on the monotonic clock."""
        if self._seconds is None:
            return FOREVER_NS
        return time.monotonic_ns() + int(self._seconds * 1e9)

    def load(self, program: Program) -> EtnavivExecutable:
        wanted = checked_program(program, EtnavivProgram, "etnaviv", self.device.chip)
        self._check_open()
        executable = EtnavivExecutable(self, wanted)
        with self._lock:
            self._executables.append(executable)
        return executable

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> EtnavivFence:
        """Start an inference; waits for the one before it of the same executable."""
        if not isinstance(executable, EtnavivExecutable) or executable.context is not self:
            raise ProgramError("program: was loaded by another context, must be loaded by this one")
        check_inputs(executable.program, inputs)
        with executable.lock:
            self._check_open()
            if executable.closed:
                raise DeviceError("etnaviv: the program was closed, must be loaded again")
            if executable.pending is not None:
                executable.pending.complete(self.deadline())
            with trace.span("convert inputs", program=executable.number):
                _store(executable, inputs)
            fence = executable.pending = EtnavivFence(executable, self)
            if executable.stream:
                self._start(executable)
            if enabled("sync"):
                fence.complete(self.deadline())
            return fence

    def _start(self, executable: EtnavivExecutable) -> None:
        try:
            with trace.span("submit", jobs=1), trace.labels(executable.program.launches):
                self._initialise()
                self._send(executable.stream, executable.bos, len(executable.program.bos))
        except DeviceError:
            executable.pending = None  # nothing runs: there is nothing to wait for
            raise

    def _initialise(self) -> None:
        """Bring the pipe into a known state, once; again where that failed."""
        with self._lock:
            if not self._ready:
                self._send(bytearray(cmdstream.init_stream()), bytearray(), 0)
                self._ready = True

    def _send(self, stream: bytearray, bos: bytearray, count: int) -> None:
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

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError("etnaviv: the device was closed, must be opened again")

    def forget(self, executable: EtnavivExecutable) -> None:
        """An executable was closed by itself."""
        with self._lock:
            if executable in self._executables:
                self._executables.remove(executable)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._lock:
            executables = list(reversed(self._executables))
        try:
            close_all(EtnavivExecutable.close, executables)
        finally:
            self._finalizer()


def _store(executable: EtnavivExecutable, inputs: Sequence[Array]) -> None:
    """Convert the inputs straight into their buffers."""
    ports = executable.program.input_ports
    buffers = [executable.buffers[number] for number in dict.fromkeys(p.buffer for p in ports)]
    for bo in buffers:
        bo.prepare(uapi.PREP_WRITE)
    for number, (port, array) in enumerate(zip(ports, inputs, strict=True)):
        port.store(array, executable.buffers[port.buffer].memory)
        dump("input", executable.number, number, executable.buffers[port.buffer].memory)
    for bo in buffers:
        bo.finish()
