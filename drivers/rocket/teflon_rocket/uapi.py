"""The kernel interface of the rocket driver: requests, structs, and what their arrays hold."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from teflon_common.drm import GEM_CLOSE, VERSION
from teflon_common.structs import Ioctl, Struct, Uapi, address, pack_array, s64, u32, u64

# Ref: docs/hardware/rocket.md §1.4 (interrupts, time limit), §2.2
# Ref: Linux, include/uapi/drm/rocket_accel.h, drivers/accel/rocket/rocket_job.c

WAITED = 0x300
"""Bits of PC.INTERRUPT_STATUS at one of which the kernel takes a task for done: the DPU's."""
ALL_UNITS = 0xF00
"""The same for a kernel that waits for the PPU as well: mainline's does not."""
LOGGED = 1 << 16
"""Jobs, tasks or handles of one list that a log has; no compiler makes as many."""
JOB_MILLISECONDS = 500
"""The kernel ends a job that takes longer, and resets the core."""


class CreateBo(Struct, size=24):
    """drm_rocket_create_bo: a zero-filled buffer, mapped for the NPU at once."""

    size: int = u32()  # bytes asked for
    handle: int = u32()  # out
    dma_address: int = address()  # out: in this file's NPU address space
    offset: int = address()  # out: for mmap


class Task(Struct, size=8):
    """drm_rocket_task: one command list."""

    regcmd: int = address(32)
    regcmd_count: int = u32()  # 64-bit words


class Job(Struct, size=40):
    """drm_rocket_job: tasks that run one after the other on one core."""

    tasks: int = address()
    in_bo_handles: int = address()
    out_bo_handles: int = address()
    task_count: int = u32()
    task_struct_size: int = u32(Task.size_bytes)
    in_bo_handle_count: int = u32()
    out_bo_handle_count: int = u32()


class Submit(Struct, size=24):
    """drm_rocket_submit: an array of jobs."""

    jobs: int = address()
    job_count: int = u32()
    job_struct_size: int = u32(Job.size_bytes)
    reserved: int = u64()


class PrepBo(Struct, size=16):
    """drm_rocket_prep_bo: wait for the jobs that write a buffer, then let the CPU have it."""

    handle: int = u32()
    reserved: int = u32()
    timeout_ns: int = s64()  # absolute CLOCK_MONOTONIC


class FiniBo(Struct, size=8):
    """drm_rocket_fini_bo: give a buffer back to the device."""

    handle: int = u32()
    reserved: int = u32()


CREATE_BO = Ioctl("CREATE_BO", "wr", 0x40, CreateBo)
SUBMIT = Ioctl("SUBMIT", "w", 0x41, Submit)
PREP_BO = Ioctl("PREP_BO", "w", 0x42, PrepBo)
FINI_BO = Ioctl("FINI_BO", "w", 0x43, FiniBo)

ROCKET = Uapi("rocket", (VERSION, GEM_CLOSE, CREATE_BO, SUBMIT, PREP_BO, FINI_BO))

FOREVER = (1 << 63) - 1
"""A timeout_ns that never comes."""


@dataclass(frozen=True)
class JobLists:
    """One job as plain lists: (device address, words) of each task, handles in and out."""

    tasks: tuple[tuple[int, int], ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    task_struct_size: int = Task.size_bytes

    def __str__(self) -> str:
        tasks = ", ".join(f"{address:#x}+{count}" for address, count in self.tasks)
        return f"job in={list(self.reads)} out={list(self.writes)} tasks {tasks}"


@dataclass(frozen=True)
class SubmitArguments:
    """A SUBMIT with the arrays that its pointers name; they live as long as this does."""

    submit: Submit
    arrays: list[npt.NDArray[Any]] = field(repr=False)


def submit_arguments(jobs: Sequence[JobLists]) -> SubmitArguments:
    """Lay jobs out in memory as the kernel reads them."""
    arrays: list[npt.NDArray[Any]] = []

    def pointer(data: npt.NDArray[Any]) -> int:
        arrays.append(data)
        return int(data.ctypes.data) if data.size else 0

    structs = [
        Job(
            tasks=pointer(np.array(job.tasks, np.uint32)),
            task_count=len(job.tasks),
            in_bo_handles=pointer(np.array(job.reads, np.uint32)),
            in_bo_handle_count=len(job.reads),
            out_bo_handles=pointer(np.array(job.writes, np.uint32)),
            out_bo_handle_count=len(job.writes),
        )
        for job in jobs
    ]
    every = np.frombuffer(pack_array(structs), np.uint8)
    return SubmitArguments(Submit(jobs=pointer(every), job_count=len(structs)), arrays)


def read_process(pointer: int, size: int) -> bytes:
    """Read memory of this process at an address that is known to be good."""
    return ctypes.string_at(pointer, size) if size else b""


def read_jobs(submit: Submit, read: Callable[[int, int], bytes] = read_process) -> list[Job]:
    """Return the job structs of a SUBMIT, through `read(address, size)`."""
    return _read_array(Job, submit.jobs, submit.job_count, submit.job_struct_size, read)


def read_tasks(job: Job, read: Callable[[int, int], bytes] = read_process) -> list[Task]:
    """Return the task structs of a job."""
    return _read_array(Task, job.tasks, job.task_count, job.task_struct_size, read)


S = TypeVar("S", bound=Struct)

_ADDRESSES = (1 << 64) - 1
_MOST = 1 << 31
"""Bytes of a list, or more, that the kernel does not copy. Ref: Linux, mm/util.c, kvmalloc_node."""


def _read_array(
    kind: type[S], pointer: int, count: int, stride: int, read: Callable[[int, int], bytes]
) -> list[S]:
    size = kind.size_bytes
    if count * size >= _MOST:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if stride == size:  # the usual case: one read for all
        data = read(pointer, size * count)
        return [kind.unpack(data[at : at + size]) for at in range(0, size * count, size)]
    places = (i * stride & 0xFFFFFFFF for i in range(count))  # the kernel multiplies in 32 bits
    return [kind.unpack(read(pointer + place & _ADDRESSES, size)) for place in places]


def read_handles(
    pointer: int, count: int, read: Callable[[int, int], bytes] = read_process
) -> tuple[int, ...]:
    """Return a list of buffer handles."""
    return tuple(int(h) for h in np.frombuffer(read(pointer, 4 * count), np.uint32))


def log_entry(
    ioctl: Ioctl, argument: Struct, read: Callable[[int, int], bytes] = read_process
) -> dict[str, Any]:
    """Return what a recording's log says about a request beside `seq` and `ioctl`."""
    if isinstance(argument, CreateBo):
        return {
            "size": argument.size,
            "handle": argument.handle,
            "dma_address": argument.dma_address,
            "arg_size": argument.size_bytes,
        }
    if isinstance(argument, PrepBo):
        return {"handle": argument.handle, "timeout_ns": argument.timeout_ns}
    if isinstance(argument, FiniBo):
        return {"handle": argument.handle}
    if isinstance(argument, Submit):
        jobs = read_jobs(argument, read) if argument.job_count <= LOGGED else []
        return {
            "arg_size": argument.size_bytes,
            "job_struct_size": argument.job_struct_size,
            "reserved": argument.reserved,
            "jobs": [_job_entry(job, read) for job in jobs],
        }
    if ioctl is GEM_CLOSE:
        return {"handle": argument.values()["handle"]}
    return {}


def _job_entry(job: Job, read: Callable[[int, int], bytes]) -> dict[str, Any]:
    sane = max(job.task_count, job.in_bo_handle_count, job.out_bo_handle_count) <= LOGGED
    if job.task_struct_size < Task.size_bytes or not sane:
        return {"task_struct_size": job.task_struct_size, "tasks": [], "in": [], "out": []}
    return {
        "task_struct_size": job.task_struct_size,
        "tasks": [[task.regcmd, task.regcmd_count] for task in read_tasks(job, read)],
        "in": list(read_handles(job.in_bo_handles, job.in_bo_handle_count, read)),
        "out": list(read_handles(job.out_bo_handles, job.out_bo_handle_count, read)),
    }
