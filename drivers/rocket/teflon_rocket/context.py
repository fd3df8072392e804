"""Run compiled programs on an opened rocket node, real or simulated.

One program has one set of buffers, and readers leave no fence in this kernel: a second inference
of the same program must not write the input before the first one is done, nor let its jobs run
before the first one's outputs are read. So `submit` first finishes the inference before it (its
outputs are kept in its fence) and then starts its own. Different programs overlap freely.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Program, Winsys
from teflon_common.drm import GEM_CLOSE, GemClose, call
from teflon_common.recorder import Recorder
from teflon_rocket import uapi
from teflon_rocket.program import Buffer, Job, RocketProgram, port_to_json
from teflon_rocket.recorded import RocketDialect

# Ref: docs/hardware/rocket.md §2.2 (requests and their traps), §9 (order and hazards)

ADDRESS_END = 1 << 32
"""All address registers, and the addresses of command lists, have 32 bits."""

JOB_SECONDS = 0.5
"""The kernel ends a job that takes longer."""

_CURES = {
    errno.ENOMEM: "the machine is out of memory: close other models or programs",
    errno.ENOSPC: "the 4 GiB address space of this node is full: close other models",
    errno.EINVAL: "the kernel driver does not know this request: is its version newer than ours?",
    errno.ENODEV: "the device is gone: was the module rocket unloaded?",
    errno.ETIMEDOUT: "is another program using the NPU? the kernel log tells whether it hangs",
    errno.EBUSY: "is another program using the NPU? the kernel log tells whether it hangs",
}


class BufferObject:
    """A buffer of the kernel, mapped for as long as it lives."""

    def __init__(self, winsys: Winsys, size: int) -> None:
        """Create and map a buffer. Raises DeviceError."""
        self._winsys = winsys
        made = call(winsys, uapi.ROCKET, uapi.CREATE_BO, uapi.CreateBo(size=size), _CURES)
        self.handle, self.address = made.handle, made.dma_address
        try:
            if self.address + size > ADDRESS_END:
                raise DeviceError(
                    f"rocket CREATE_BO: {size} bytes lie at {self.address:#x}, must end below "
                    f"{ADDRESS_END:#x} (the NPU's registers have 32 bits: close other models)"
                )
            self.memory = self._map(made.offset, size)
        except TeflonError:
            self.close()
            raise

    def _map(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        try:
            return np.frombuffer(self._winsys.mmap(offset, size), np.uint8)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "?")
            cure = _CURES.get(error.errno or 0, "see the kernel log")
            raise DeviceError(
                f"rocket mmap(handle={self.handle}, size={size}): {name}, {error.strerror} ({cure})"
            ) from error

    def prepare(self, deadline_ns: int = uapi.FOREVER) -> None:
        """Wait until no job writes the buffer, then let the CPU see what they wrote."""
        request = uapi.PrepBo(handle=self.handle, timeout_ns=deadline_ns)
        call(self._winsys, uapi.ROCKET, uapi.PREP_BO, request, _CURES)

    def finish(self) -> None:
        """Let the device see what the CPU wrote."""
        call(self._winsys, uapi.ROCKET, uapi.FINI_BO, uapi.FiniBo(handle=self.handle), _CURES)

    def close(self) -> None:
        """Drop the handle; the mapping goes with its last user."""
        call(self._winsys, uapi.ROCKET, GEM_CLOSE, GemClose(handle=self.handle), _CURES)


class RocketExecutable(Executable):
    """A program whose buffers exist; `lock` guards them, `pending` is the inference under way."""

    def __init__(self, context: RocketContext, program: RocketProgram) -> None:
        """Create the buffers in order, patch addresses, upload. Raises DeviceError."""
        self.program: RocketProgram = program
        self.lock = threading.Lock()
        self.pending: RocketFence | None = None
        self.closed = False
        self.buffers: list[BufferObject] = []
        self._context = context
        try:
            for buffer in program.buffers:
                self.buffers.append(BufferObject(context.winsys, buffer.size))
            for bo, content in zip(self.buffers, self._contents(), strict=True):
                _upload(bo, content)
        except TeflonError:
            self._free()
            raise
        self.submit = uapi.submit_arguments([self._lists(job) for job in program.jobs])
        if isinstance(context.winsys, Recorder):
            self._note_ports(context.winsys)

    def _contents(self) -> list[npt.NDArray[np.uint8] | None]:
        """Return what each buffer starts with, the kernel's addresses filled in."""
        contents = [_content(buffer) for buffer in self.program.buffers]
        for reloc in self.program.relocs:
            content = contents[reloc.buffer]
            if content is None:
                raise ProgramError(
                    f"program: an address goes to buffer {reloc.buffer}, which has no content "
                    "(the program is damaged: compile the model again)"
                )
            word = content[reloc.offset : reloc.offset + 8].view("<u8")
            address = self.buffers[reloc.target].address + reloc.addend
            keep = np.uint64(0xFFFF_0000_0000_FFFF)
            word[0] = (word[0] & keep) | np.uint64(address << 16)
        return contents

    def _lists(self, job: Job) -> uapi.JobLists:
        reads = [self.buffers[i].handle for i in job.reads]
        writes = [self.buffers[i].handle for i in job.writes]
        if self.program.strategy != "mesa":  # the kernel drops a job that names a buffer twice
            writes = list(dict.fromkeys(writes))
            reads = [handle for handle in dict.fromkeys(reads) if handle not in writes]
        tasks = [(self.buffers[t.buffer].address + t.offset, t.count) for t in job.tasks]
        return uapi.JobLists(tuple(tasks), tuple(reads), tuple(writes))

    def _note_ports(self, recorder: Recorder) -> None:
        """Let a recording know how its tensors lie in buffers."""
        program = self.program
        for kind, ports in (("input", program.input_ports), ("output", program.output_ports)):
            for port in ports:
                recorder.note_port(
                    handle=self.buffers[port.buffer].handle, kind=kind,
                    name=program.buffers[port.buffer].name, port=port_to_json(port),
                )  # fmt: skip

    def close(self) -> None:
        """Finish what is under way, then free the buffers. Raises DeviceError, SimulatorFault."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self._context.forget(self)
            if self.pending is not None:
                self.pending.complete(self._context.deadline(self))
            self._free()

    def _free(self) -> None:
        buffers, self.buffers = self.buffers, []
        if os.getpid() == self._context.owner:  # a forked child must not free its parent's
            for bo in reversed(buffers):
                bo.close()


def _content(buffer: Buffer) -> npt.NDArray[np.uint8] | None:
    return None if buffer.data is None else np.frombuffer(bytearray(buffer.data), np.uint8)


def _upload(bo: BufferObject, content: npt.NDArray[np.uint8] | None) -> None:
    if content is None:
        return
    bo.prepare()
    bo.memory[: len(content)] = content
    bo.finish()


class RocketFence(Fence):
    """One inference: its outputs, or the error that it ended with, once it is complete."""

    def __init__(self, executable: RocketExecutable, context: RocketContext) -> None:
        self._executable, self._context = executable, context
        self._outputs: list[Array] | None = None
        self._error: TeflonError | None = None

    @property
    def _complete(self) -> bool:
        return self._outputs is not None or self._error is not None

    def done(self) -> bool:
        if self._complete:
            return True
        if not self._executable.lock.acquire(blocking=False):
            return False  # somebody waits for it, or for one of the same program
        try:
            if not self._complete:
                self.complete(0)
        except DeviceTimeout:
            return False
        finally:
            self._executable.lock.release()
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        if not self._complete:
            self._wait(timeout)
        if self._error is not None:
            raise self._error
        assert self._outputs is not None
        return self._outputs

    def _wait(self, timeout: float | None) -> None:
        deadline = self._context.deadline(self._executable)
        if timeout is not None:
            deadline = time.monotonic_ns() + int(timeout * 1e9)
        if not self._executable.lock.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise DeviceTimeout(
                f"rocket: an inference is not done after {timeout:g} s, must be by then "
                "(wait longer, or again)"
            )
        try:
            if not self._complete:
                self.complete(deadline)
        finally:
            self._executable.lock.release()

    def complete(self, deadline_ns: int) -> None:
        """Wait for the device and take the outputs; the caller holds the executable's lock.

        Raises DeviceTimeout when it is not done by then; any other error is kept for `wait`.
        """
        executable = self._executable
        try:
            ports = executable.program.output_ports
            for number in dict.fromkeys(port.buffer for port in ports):
                executable.buffers[number].prepare(deadline_ns)
            self._outputs = [p.fetch(executable.buffers[p.buffer].memory) for p in ports]
        except DeviceTimeout:
            raise
        except TeflonError as error:
            self._error = error
        executable.pending = None


class RocketContext(Context):
    """One open file of a rocket node; `seconds` limits an inference (None: no limit)."""

    def __init__(
        self,
        device: Device,
        winsys: Winsys,
        seconds: float | None = None,
        record: str = "",
    ) -> None:
        """record: a file that gets a recording of everything submitted, when this is closed or
        the interpreter ends. Raises OptionError for a folder that is not there.
        """
        if record and not Path(record).absolute().parent.is_dir():
            raise OptionError(f"option record: {record}: its folder must exist, does not")
        if record:
            winsys = Recorder(winsys, RocketDialect(), device.driver, device.driver)
        self._finalizer = weakref.finalize(self, _save, winsys, record)
        self.device = device
        self.winsys = winsys
        self.owner = os.getpid()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._executables: list[RocketExecutable] = []
        self._closed = False

    def deadline(self, executable: RocketExecutable) -> int:
        """Return when an inference that starts now must be done, on the monotonic clock."""
        if self._seconds is None:
            return uapi.FOREVER
        seconds = self._seconds + JOB_SECONDS * len(executable.program.jobs)
        return time.monotonic_ns() + int(seconds * 1e9)

    def load(self, program: Program) -> RocketExecutable:
        if not isinstance(program, RocketProgram):
            raise ProgramError(
                f"program: driver is {program.driver!r}, must be 'rocket' (compile it for it)"
            )
        if program.chip != self.device.chip:
            raise ProgramError(
                f"program: chip is {program.chip!r}, must be {self.device.chip!r} "
                "(compile the model for this chip)"
            )
        self._check_open()
        executable = RocketExecutable(self, program)
        with self._lock:
            self._executables.append(executable)
        return executable

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> RocketFence:
        """Start an inference; waits for the one before it of the same executable."""
        if not isinstance(executable, RocketExecutable):
            raise ProgramError("program: was not loaded by this context, must be")
        _check_inputs(executable.program, inputs)
        with executable.lock:
            self._check_open()
            if executable.closed:
                raise DeviceError("rocket: the program was closed, must be loaded again")
            if executable.pending is not None:
                executable.pending.complete(self.deadline(executable))
            _store(executable, inputs)
            fence = executable.pending = RocketFence(executable, self)
            call(self.winsys, uapi.ROCKET, uapi.SUBMIT, executable.submit.submit, _CURES)
            return fence

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError("rocket: the device was closed, must be opened again")

    def forget(self, executable: RocketExecutable) -> None:
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
            for executable in executables:
                executable.close()
        finally:
            self.winsys.close()
            self._finalizer()


def _save(winsys: Winsys, record: str) -> None:
    if isinstance(winsys, Recorder):
        winsys.recording().save(record)


def _check_inputs(program: RocketProgram, inputs: Sequence[Array]) -> None:
    if len(inputs) != len(program.inputs):
        raise OptionError(
            f"program: {len(inputs)} inputs were given, must be {len(program.inputs)}"
        )
    for number, (array, wanted) in enumerate(zip(inputs, program.inputs, strict=True)):
        if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
            raise OptionError(
                f"program: input {number} is {array.dtype}{list(array.shape)}, must be "
                f"{wanted.dtype.numpy}{list(wanted.shape)}"
            )


def _store(executable: RocketExecutable, inputs: Sequence[Array]) -> None:
    """Convert the inputs straight into their buffers."""
    ports = executable.program.input_ports
    buffers = [executable.buffers[number] for number in dict.fromkeys(p.buffer for p in ports)]
    for bo in buffers:
        bo.prepare()
    for port, array in zip(ports, inputs, strict=True):
        port.store(array, executable.buffers[port.buffer].memory)
    for bo in buffers:
        bo.finish()
