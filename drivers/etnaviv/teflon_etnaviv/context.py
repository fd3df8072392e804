"""Run compiled programs on an opened etnaviv node, real or simulated."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from teflon import forks, trace
from teflon.debug import enabled
from teflon.errors import DeviceError, ProgramError
from teflon.ir.types import Array
from teflon.pipe import Device, Winsys
from teflon_common.canary import Canary
from teflon_common.context import LoadedProgram, NodeContext, close_all
from teflon_common.drm import Request, call
from teflon_common.recorder import recorded
from teflon_common.structs import pack_array
from teflon_etnaviv import cmdstream, uapi
from teflon_etnaviv.buffer_dump import dump
from teflon_etnaviv.buffers import CURES, AddressHeap, BufferObject
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.dialect import EtnavivDialect
from teflon_etnaviv.program import STREAM, EtnavivProgram, Port

# Ref: docs/hardware/etnaviv.md sections 2.2, 2.5, 6.5

CANARY_BYTES = 64


def identities(winsys: Winsys) -> list[Identity]:
    """Return the identity of each core of a node. Raises DeviceError where one does not answer."""
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
    """Return a parameter of a core; None where the kernel refuses with one of these errnos."""
    argument = uapi.GetParam(pipe=pipe, param=param)
    try:
        return call(winsys, uapi.ETNAVIV, uapi.GET_PARAM, argument, CURES).value
    except DeviceError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in absent:
            return None
        raise


class EtnavivExecutable(LoadedProgram[EtnavivProgram, BufferObject]):
    """A loaded program: its buffers exist and have addresses."""

    context: EtnavivContext

    def create(self, size: int) -> BufferObject:
        return BufferObject(self.context.winsys, self.context.heap, size)

    def upload(self) -> None:
        program = self.program
        addresses = np.array([bo.address for bo in self.buffers])
        for number, buffer in enumerate(program.buffers):
            if buffer.data is not None:
                bo = self.buffers[number]
                bo.prepare(uapi.PREP_WRITE)
                self._fill(bo.memory, buffer.data, number, addresses)
                bo.finish()
            elif number in program.patches:
                raise ProgramError(
                    f"program: an address goes to buffer {number}, which has no content"
                    " (the program is damaged: compile the model again)"
                )
        self.stream = np.zeros(len(program.stream), np.uint8)
        self._fill(self.stream, program.stream, STREAM, addresses)
        if enabled("bos"):
            self._dump()
        self._submit = self._request()
        self._inputs = [p.place(self.buffers[p.buffer].memory) for p in program.input_ports]
        self._outputs = [p.place(self.buffers[p.buffer].memory) for p in program.output_ports]
        self._read = self._used_by(program.input_ports)
        self._written = self._used_by(program.output_ports)
        self.canaries = [self._canary(n, port) for n, port in enumerate(program.output_ports)]

    def _fill(self, memory: Array, data: bytes | memoryview, number: int, addresses: Array) -> None:
        """Copy content into memory and fill its addresses in."""
        memory[: len(data)] = np.frombuffer(data, np.uint8)
        if patches := self.program.patches.get(number):
            words = np.frombuffer(data, "<u4", len(data) // 4)
            memory[: words.nbytes].view("<u4")[patches.words] = patches.apply(words, addresses)

    def _request(self) -> Request:
        """Return the request that submits the program; the arrays that it points to are kept."""
        listed = [(self.buffers[number], flags) for number, flags in self.program.bos]
        self._bos = np.frombuffer(
            pack_array(
                uapi.SubmitBo(flags=flags, handle=bo.handle, presumed=bo.address)
                for bo, flags in listed
            ),
            np.uint8,
        )
        return self.context.submission(self.stream, self._bos, len(listed))

    def _used_by(self, ports: Sequence[Port]) -> list[BufferObject]:
        return [self.buffers[number] for number in dict.fromkeys(port.buffer for port in ports)]

    def _canary(self, number: int, port: Port) -> Canary | None:
        """Return a mark at the end of an output; None for one that the device does not write."""
        if not self.program.stream or self.program.buffers[port.buffer].data is not None:
            return None
        return Canary(self._outputs[number].raw[-CANARY_BYTES:])

    def _dump(self) -> None:
        counts: Counter[str] = Counter()
        for bo, buffer in zip(self.buffers, self.program.buffers, strict=True):
            dump(buffer.role, self.number, counts[buffer.role], bo.memory)
            counts[buffer.role] += 1
        dump("cmd", self.number, 0, self.stream)

    def store(self, inputs: Sequence[Array]) -> None:
        for bo in self._read:
            bo.prepare(uapi.PREP_WRITE)
        for canary in self.canaries:  # first: an output may lie where an input is
            if canary is not None:
                canary.put()
        for place, array in zip(self._inputs, inputs, strict=True):
            place.store(array)
        if enabled("bos"):
            self._dump_ports("input", self.program.input_ports)
        for bo in self._read:
            bo.finish()

    def start(self) -> None:
        if self.program.stream:
            try:
                with trace.span("submit", jobs=1), trace.labels(self.program.launches):
                    self.context.initialise()
                    self._submit.send()
            except DeviceError:
                self.pending = None  # nothing runs: there is nothing to wait for
                raise
        if enabled("sync") and self.pending is not None:
            self.pending.complete(self.context.deadline(self))

    def await_outputs(self, deadline_ns: int) -> None:
        for bo in self._written:
            bo.prepare(uapi.PREP_READ, deadline_ns)
            bo.finish()

    def fetch(self) -> list[Array]:
        if enabled("bos"):
            self._dump_ports("output", self.program.output_ports)
        for number, canary in enumerate(self.canaries):
            if canary is not None and canary.alive():
                name = self.program.output_ports[number].name
                raise DeviceError(
                    f"etnaviv: output {number} {name!r} was not written by the device, must be"
                    " (a job hung or faulted, and the kernel reset the NPU: see the kernel log)"
                )
        return [
            place.fetch(results.take())
            for place, results in zip(self._outputs, self.results, strict=True)
        ]

    def _dump_ports(self, role: str, ports: Sequence[Port]) -> None:
        for number, port in enumerate(ports):
            dump(role, self.number, number, self.buffers[port.buffer].memory)

    def free(self) -> None:
        """Close every buffer; addresses that the device may still use stay taken."""
        busy = self.pending is not None  # it may still be running
        self.canaries, self._inputs, self._outputs = [], [], []  # these are views of the memory
        self._read, self._written = [], []
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
        that does not exist.
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
        self._pipe_lock = forks.lock()

    def executable(self, program: EtnavivProgram, number: int) -> EtnavivExecutable:
        return EtnavivExecutable(self, program, number)

    def initialise(self) -> None:
        """Bring the pipe into a known state, once. Raises DeviceError; call it again then."""
        if self._ready:
            return
        with self._pipe_lock:
            if not self._ready:
                stream = np.frombuffer(cmdstream.init_stream(), np.uint8)
                self.submission(stream, stream[:0], 0).send()
                self._ready = True

    def submission(self, stream: Array, bos: Array, count: int) -> Request:
        """Return the submit of a stream and of an array of buffers, which both must stay alive."""
        argument = uapi.Submit(
            pipe=self.pipe,
            nr_bos=count,
            stream_size=stream.size,
            stream=stream.ctypes.data,
            bos=bos.ctypes.data if count else 0,
            flags=uapi.SUBMIT_SOFTPIN,
        )
        return Request(self.winsys, uapi.ETNAVIV, uapi.GEM_SUBMIT, argument, CURES)
