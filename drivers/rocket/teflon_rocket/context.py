"""Run compiled programs on an opened rocket node, real or simulated.

One program has one set of buffers, and readers leave no fence in this kernel: a second inference
of the same program must not write the input before the first one is done, nor let its jobs run
before the first one's outputs are read. So `submit` first finishes the inference before it (its
outputs are kept in its fence) and then starts its own. Different programs overlap freely.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from teflon import trace
from teflon.debug import enabled, log
from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Program, Winsys
from teflon_common.context import LockedFence, check_inputs, checked_program, close_all
from teflon_common.drm import call
from teflon_common.program import Buffer, port_to_json
from teflon_common.recorder import Recorder, finish
from teflon_rocket import transfer, uapi
from teflon_rocket.bodump import dump
from teflon_rocket.buffers import CURES, BufferObject
from teflon_rocket.canary import Canary
from teflon_rocket.program import Job, RocketProgram
from teflon_rocket.recorded import RocketDialect

# Ref: docs/hardware/rocket.md §2.2 (requests and their traps), §9 (order and hazards)

JOB_SECONDS = 0.5
"""The kernel ends a job that takes longer."""


class RocketExecutable(Executable):
    """A program whose buffers exist; `lock` guards them, `pending` is the inference under way.

    `number` counts the programs of a context.
    """

    def __init__(self, context: RocketContext, program: RocketProgram, number: int) -> None:
        """Create the buffers in order, patch addresses, upload. Raises DeviceError."""
        self.program: RocketProgram = program
        self.number = number
        self.lock = threading.Lock()
        self.pending: RocketFence | None = None
        self.closed = False
        self.buffers: list[BufferObject] = []
        self.canaries: list[Canary] = []
        self.context = context
        try:
            for buffer in program.buffers:
                self.buffers.append(BufferObject(context.winsys, buffer.size))
            for bo, content in zip(self.buffers, self._contents(), strict=True):
                _upload(bo, content)
            self._dump()
        except TeflonError:
            with contextlib.suppress(TeflonError):  # the first error is the one to tell
                self._free()
            raise
        self.jobs = [self._lists(job) for job in program.jobs]
        self.submit = uapi.submit_arguments(self.jobs)
        self.canaries = [Canary(p, self.buffers[p.buffer].memory) for p in program.output_ports]
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

    def _dump(self) -> None:
        counts = dict.fromkeys(("weights", "biases", "regcmd"), 0)
        for bo, buffer in zip(self.buffers, self.program.buffers, strict=True):
            if buffer.role in counts:
                dump(buffer.role, self.number, counts[buffer.role], bo.memory)
                counts[buffer.role] += 1

    def _note_ports(self, recorder: Recorder) -> None:
        """Let a recording know how its tensors lie in buffers."""
        program = self.program
        for kind, ports in (("input", program.input_ports), ("output", program.output_ports)):
            for port in ports:
                recorder.note_port(
                    handle=self.buffers[port.buffer].handle, kind=kind,
                    name=program.name_of(port), port=port_to_json(port),
                )  # fmt: skip

    def close(self) -> None:
        """Finish what is under way, then free the buffers. Raises DeviceError, SimulatorFault."""
        if os.getpid() != self.context.owner:
            return  # a forked child must not free its parent's buffers
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.context.forget(self)
            try:
                if self.pending is not None:
                    self.pending.complete(self.context.deadline(self))
            finally:
                self._free()

    def _free(self) -> None:
        """Close every buffer; the first error, if any, is raised when all were tried."""
        buffers, self.buffers, self.canaries = self.buffers, [], []
        close_all(BufferObject.close, reversed(buffers))


def _content(buffer: Buffer) -> npt.NDArray[np.uint8] | None:
    return None if buffer.data is None else np.frombuffer(bytearray(buffer.data), np.uint8)


def _upload(bo: BufferObject, content: npt.NDArray[np.uint8] | None) -> None:
    if content is None:
        return
    bo.prepare()
    bo.memory[: len(content)] = content
    bo.finish()


class RocketFence(LockedFence):
    """One inference of an executable."""

    def __init__(self, executable: RocketExecutable, context: RocketContext) -> None:
        super().__init__("rocket", executable.lock)
        self._executable, self._context = executable, context

    def deadline(self) -> int:
        return self._context.deadline(self._executable)

    def complete(self, deadline_ns: int) -> None:
        executable = self._executable
        ports = executable.program.output_ports
        error: TeflonError | None = None
        with trace.span("wait", program=executable.number):
            for number in dict.fromkeys(port.buffer for port in ports):
                try:
                    executable.buffers[number].prepare(deadline_ns)
                except DeviceTimeout:
                    raise
                except TeflonError as found:  # the other buffers are waited for nevertheless
                    error = error or found
        self._error = error or transfer.unwritten(executable)
        if self._error is None:
            with trace.span("convert outputs", program=executable.number):
                self._outputs = [p.fetch(executable.buffers[p.buffer].memory) for p in ports]
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
        self.device = device
        self.winsys = winsys
        self.owner = os.getpid()
        self._finalizer = weakref.finalize(self, finish, winsys, record, self.owner)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._executables: list[RocketExecutable] = []
        self._loaded = 0
        self._closed = False

    def deadline(self, executable: RocketExecutable) -> int:
        """Return when an inference that starts now must be done, on the monotonic clock."""
        if self._seconds is None:
            return uapi.FOREVER
        seconds = self._seconds + JOB_SECONDS * len(executable.program.jobs)
        return time.monotonic_ns() + int(seconds * 1e9)

    def load(self, program: Program) -> RocketExecutable:
        wanted = checked_program(program, RocketProgram, "rocket", self.device.chip)
        self._check_open()
        with self._lock:
            number, self._loaded = self._loaded, self._loaded + 1
        executable = RocketExecutable(self, wanted, number)
        with self._lock:
            self._executables.append(executable)
        return executable

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> RocketFence:
        """Start an inference; waits for the one before it of the same executable."""
        if not isinstance(executable, RocketExecutable) or executable.context is not self:
            raise ProgramError("program: was loaded by another context, must be loaded by this one")
        check_inputs(executable.program, inputs)
        with executable.lock:
            self._check_open()
            if executable.closed:
                raise DeviceError("rocket: the program was closed, must be loaded again")
            if executable.pending is not None:
                executable.pending.complete(self.deadline(executable))
            with trace.span("convert inputs", program=executable.number):
                transfer.store(executable, inputs)
                transfer.mark_outputs(executable)
            fence = executable.pending = RocketFence(executable, self)
            jobs = executable.program.jobs
            with trace.labels(jobs), trace.span("submit", jobs=len(jobs)):
                self._submit(executable)
            return fence

    def _submit(self, executable: RocketExecutable) -> None:
        if not enabled("sync"):
            self._start(executable, executable.submit, executable.jobs)
            return
        for job, lists in zip(executable.program.jobs, executable.jobs, strict=True):
            for name, piece in _pieces(job, lists):
                with trace.labels([name]):
                    self._start(executable, uapi.submit_arguments([piece]), [piece])
                self._wait_for(executable, job, name)

    def _start(
        self,
        executable: RocketExecutable,
        arguments: uapi.SubmitArguments,
        jobs: Sequence[uapi.JobLists],
    ) -> None:
        if enabled("ioctl"):
            for job in jobs:
                log(f"  {job}")
        try:
            call(self.winsys, uapi.ROCKET, uapi.SUBMIT, arguments.submit, CURES)
        except DeviceError:
            executable.pending = None  # nothing runs: there is nothing to wait for
            raise

    def _wait_for(self, executable: RocketExecutable, job: Job, name: str) -> None:
        """Wait for an operation that runs alone. Raises DeviceError that names it."""
        try:
            for number in job.writes:
                executable.buffers[number].prepare(self.deadline(executable))
        except TeflonError as error:
            raise type(error)(f"job {name!r}: {error}") from error

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
            close_all(RocketExecutable.close, executables)
        finally:
            self._finalizer()


def _pieces(job: Job, lists: uapi.JobLists) -> Iterator[tuple[str, uapi.JobLists]]:
    """Yield a job's operations by name, each as a job of its own; the job where nobody told."""
    start = 0
    for name, count in job.operations or ((job.name, len(lists.tasks)),):
        yield name, dataclasses.replace(lists, tasks=lists.tasks[start : start + count])
        start += count
