"""Run compiled programs on an opened rocket node, real or simulated.

Readers leave no fence in this kernel: a second inference of the same program must not write the
input before the first one is done, nor let its jobs run before the first one's outputs are read.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from teflon import trace
from teflon.debug import enabled, log
from teflon.errors import DeviceError, DeviceTimeout, ProgramError, TeflonError
from teflon.pipe import Device, Winsys
from teflon_common.context import NodeContext
from teflon_common.drm import Request
from teflon_common.program import Buffer
from teflon_common.recorder import recorded
from teflon_rocket import uapi
from teflon_rocket.bodump import dump
from teflon_rocket.buffers import CURES, BufferObject
from teflon_rocket.dialect import RocketDialect
from teflon_rocket.program import Job, RocketProgram, each_once
from teflon_rocket.strategies import BUFFER_LISTS
from teflon_rocket.transfer import Transfers

# Ref: docs/hardware/rocket.md §2.2 (requests and their traps), §9 (order and hazards)

JOB_SECONDS = uapi.JOB_MILLISECONDS / 1e3
"""The kernel ends a job that takes longer."""


class RocketExecutable(Transfers):
    """A program whose buffers exist in the kernel, with all that a submit needs."""

    context: RocketContext

    def create(self, size: int) -> BufferObject:
        return BufferObject(self.context.winsys, size)

    def upload(self) -> None:
        program = self.program
        for bo, content in zip(self.buffers, self._contents(), strict=True):
            _upload(bo, content)
        self._dump()
        self.jobs = [self._lists(job) for job in program.jobs]
        self.submit = uapi.submit_arguments(self.jobs)
        self._request = self._submit(self.submit)
        self.find_ends()

    @property
    def seconds(self) -> float:
        return JOB_SECONDS * len(self.program.jobs)

    def _submit(self, arguments: uapi.SubmitArguments) -> Request:
        return Request(self.context.winsys, uapi.ROCKET, uapi.SUBMIT, arguments.submit, CURES)

    def _contents(self) -> list[npt.NDArray[np.uint8] | None]:
        """Return what each buffer starts with, the kernel's addresses filled in."""
        patched = {reloc.buffer for reloc in self.program.relocs}
        contents = [
            _content(buffer, number in patched)
            for number, buffer in enumerate(self.program.buffers)
        ]
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
        job = BUFFER_LISTS.get(self.program.strategy, each_once)(job)
        reads = [self.buffers[i].handle for i in job.reads]
        writes = [self.buffers[i].handle for i in job.writes]
        tasks = [(self.buffers[t.buffer].address + t.offset, t.count) for t in job.tasks]
        return uapi.JobLists(tuple(tasks), tuple(reads), tuple(writes))

    def _dump(self) -> None:
        counts = Counter[str]()
        for bo, buffer in zip(self.buffers, self.program.buffers, strict=True):
            if buffer.data is not None:
                dump(buffer.role, self.number, counts[buffer.role], bo.memory)
                counts[buffer.role] += 1

    def start(self) -> None:
        program = self.program
        jobs = program.jobs
        with trace.labels(jobs), trace.span("submit", jobs=len(jobs)):
            if not enabled("sync"):
                self._send(self._request, self.jobs)
                return
            for job, lists in zip(jobs, self.jobs, strict=True):
                for name, piece in _pieces(job, lists):
                    with trace.labels([name]):
                        arguments = uapi.submit_arguments([piece])
                        self._send(self._submit(arguments), [piece])
                    self._wait_for(job, name)

    def _send(self, request: Request, jobs: Sequence[uapi.JobLists]) -> None:
        if enabled("ioctl"):
            for job in jobs:
                log(f"  {job}")
        try:
            request.send()
        except DeviceError:
            self.pending = None  # nothing runs: there is nothing to wait for
            raise

    def _wait_for(self, job: Job, name: str) -> None:
        """Wait for an operation that runs alone. Raises DeviceError that names it."""
        try:
            for number in job.writes:
                self.buffers[number].prepare(self.context.deadline(self))
        except TeflonError as error:
            raise type(error)(f"job {name!r}: {error}") from error

    def await_outputs(self, deadline_ns: int) -> None:
        error: TeflonError | None = None
        for bo in self.waited:
            try:
                bo.prepare(deadline_ns)
            except DeviceTimeout:
                raise
            except TeflonError as found:  # the other buffers are waited for nevertheless
                error = error or found
        if error := error or self.unwritten():
            raise error


def _content(buffer: Buffer, writable: bool) -> npt.NDArray[np.uint8] | None:
    data = buffer.data
    if data is None:
        return None
    return np.frombuffer(bytearray(data) if writable else data, np.uint8)


def _upload(bo: BufferObject, content: npt.NDArray[np.uint8] | None) -> None:
    if content is None:
        return
    bo.prepare()
    bo.memory[: len(content)] = content
    bo.finish()


class RocketContext(NodeContext[RocketProgram, RocketExecutable]):
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
        winsys = recorded(winsys, record, RocketDialect(), device.driver, device.driver)
        super().__init__(device, winsys, RocketProgram, seconds, record)

    def executable(self, program: RocketProgram, number: int) -> RocketExecutable:
        return RocketExecutable(self, program, number)

    def again(self) -> RocketContext:
        self._check_open()
        try:
            winsys = self.winsys.again()
        except OSError as error:
            raise DeviceError(
                f"{self.device.driver}: the node cannot be opened again, {error.strerror}"
            ) from error
        return RocketContext(self.device, winsys, self._seconds)


def _pieces(job: Job, lists: uapi.JobLists) -> Iterator[tuple[str, uapi.JobLists]]:
    """Yield a job's operations by name, each as a job; the whole job where they are not known."""
    start = 0
    for name, count in job.operations or ((job.name, len(lists.tasks)),):
        yield name, dataclasses.replace(lists, tasks=lists.tasks[start : start + count])
        start += count
