"""The fake rocket kernel: errnos, what it drops and reports, fences, faults, several files."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from teflon.errors import DeviceError, DeviceTimeout, SimulatorFault
from teflon_common.drm import GEM_CLOSE, GemClose, call, version
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import uapi
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import CNA, DPU, command
from teflon_rocket.simulator.jobs import TaskRunner
from teflon_rocket.simulator.kernel import RocketKernel
from teflon_rocket.uapi import FOREVER, JobLists


class Machine(TaskRunner):
    """Notes what it is told to run; a test may hold it, or let it fail."""

    def __init__(self, memory: DeviceMemory) -> None:
        self.memory = memory
        self.ran: list[tuple[int, int, int, str]] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.raised = uapi.WAITED

    def interrupts(self, regcmd_address: int, count: int) -> int:
        return self.raised

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        assert self.go.wait(10)
        self.ran.append((regcmd_address, count, core, where))
        if self.error is not None:
            raise self.error


class Board:
    """A kernel, an open file of it, and the buffers that the tests use."""

    def __init__(self, kernel: RocketKernel | None = None, **options: Any) -> None:
        self.machines: list[Machine] = []
        self.kernel = kernel or RocketKernel(RK3588, machine=self.make, **options)
        self.winsys = FakeWinsys(self.kernel)
        self.commands = self.create(64)
        self.input, self.output = self.create(100), self.create(100)

    def make(self, memory: DeviceMemory) -> TaskRunner:
        self.machines.append(Machine(memory))
        return self.machines[-1]

    @property
    def machine(self) -> Machine:
        return self.machines[0]

    def call(self, ioctl: Ioctl, argument: Struct) -> Struct:
        return call(self.winsys, uapi.ROCKET, ioctl, argument)

    def create(self, size: int) -> uapi.CreateBo:
        return call(self.winsys, uapi.ROCKET, uapi.CREATE_BO, uapi.CreateBo(size=size))

    def job(self, **changes: object) -> JobLists:
        plain: dict[str, object] = {
            "tasks": ((self.commands.dma_address, 8),),
            "reads": (self.input.handle,),
            "writes": (self.output.handle,),
        }
        return JobLists(**(plain | changes))  # type: ignore[arg-type]

    def submit(self, *jobs: JobLists) -> None:
        arguments = uapi.submit_arguments(jobs)
        self.call(uapi.SUBMIT, arguments.submit)

    def prep(self, handle: int, seconds: float | None = None) -> None:
        deadline = FOREVER if seconds is None else time.monotonic_ns() + int(seconds * 1e9)
        self.call(uapi.PREP_BO, uapi.PrepBo(handle=handle, timeout_ns=deadline))


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    for machine in made.machines:
        machine.go.set()
    made.winsys.close()


def test_who_drives_it(board: Board) -> None:
    assert version(board.winsys).name == "rocket"
    assert version(board.winsys).description == "rocket DRM"


def test_numbers_are_those_of_the_kernel() -> None:
    # Ref: docs/hardware/rocket.md §2.2
    numbers = {i.name: i.request for i in uapi.ROCKET.ioctls.values()}
    assert numbers == {
        "VERSION": 0xC0406400, "GEM_CLOSE": 0x40086409, "CREATE_BO": 0xC0186440,
        "SUBMIT": 0x40186441, "PREP_BO": 0x40106442, "FINI_BO": 0x40086443,
    }  # fmt: skip


BAD = [
    (uapi.CREATE_BO, uapi.CreateBo(size=0), errno.ENOSPC),
    (uapi.CREATE_BO, uapi.CreateBo(size=0x7FFFF001), errno.ENOMEM),
    (uapi.PREP_BO, uapi.PrepBo(handle=99), errno.ENOENT),
    (uapi.PREP_BO, uapi.PrepBo(handle=1, reserved=1), errno.EINVAL),
    (uapi.PREP_BO, uapi.PrepBo(handle=99, reserved=1), errno.EINVAL),
    (uapi.FINI_BO, uapi.FiniBo(handle=99), errno.ENOENT),
    (uapi.FINI_BO, uapi.FiniBo(handle=1, reserved=1), errno.EINVAL),
    (uapi.SUBMIT, uapi.Submit(job_count=1, job_struct_size=39), errno.EINVAL),
    (uapi.SUBMIT, uapi.Submit(job_count=1, reserved=1), errno.EINVAL),
    (uapi.SUBMIT, uapi.Submit(job_count=1, jobs=8), errno.EFAULT),
    (uapi.SUBMIT, uapi.Submit(job_count=(1 << 32) - 1, jobs=8), errno.ENOMEM),
    (uapi.SUBMIT, uapi.Submit(job_count=0, job_struct_size=1, reserved=1), 0),
    (GEM_CLOSE, GemClose(handle=99), errno.EINVAL),
]


@pytest.mark.parametrize(("ioctl", "argument", "code"), BAD)
def test_errnos(board: Board, ioctl: Ioctl, argument: Struct, code: int) -> None:
    data = bytearray(argument.pack())
    if not code:
        assert board.winsys.ioctl(ioctl.request, data) == 0
        return
    with pytest.raises(OSError, match=r"\[Errno") as info:
        board.winsys.ioctl(ioctl.request, data)
    assert info.value.errno == code
    assert board.kernel.log[-1]["ioctl"] == ioctl.name
    assert board.kernel.log[-1]["errno"] == code


def test_messages_name_request_and_errno(board: Board) -> None:
    with pytest.raises(
        DeviceError,
        match=r"^rocket FINI_BO\(handle=99, reserved=0\): ENOENT, No such file or directory "
        r"\(the kernel log may tell why\)$",
    ):
        board.call(uapi.FINI_BO, uapi.FiniBo(handle=99))


DROPPED = {
    "no tasks": ({"tasks": ()}, r"EINVAL: task_count is 0, must be at least 1"),
    "no commands": (
        {"tasks": ((1, 1), (1, 0))},
        r"EINVAL: task 1: regcmd_count is 0, must be at least 1",
    ),
    "bad in handle": ({"reads": (3, 99)}, r"ENOENT: handle 99 is no buffer of this file"),
    "bad out handle": ({"writes": (98,)}, r"ENOENT: handle 98 is no buffer of this file"),
    "twice in one list": (
        {"reads": (2, 2)},
        r"EALREADY: handle 2 is in the buffer lists twice, must be once",
    ),
    "in both lists": (
        {"reads": (3,)},
        r"EALREADY: handle 3 is in the buffer lists twice, must be once",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), DROPPED.values(), ids=DROPPED)
def test_a_bad_job_is_dropped_and_reported(
    board: Board, changes: dict[str, object], reason: str
) -> None:
    board.submit(board.job(**changes), board.job())
    board.prep(board.output.handle)
    assert [where for *_, where in board.machine.ran] == ["submit 0 job 1 task 0"]
    assert board.kernel.complaints == [f"SUBMIT: submit 0 job 0 is dropped with {reason}"]


def test_more_ways_to_lose_a_job(board: Board) -> None:
    arguments = uapi.submit_arguments([board.job()])
    whole = bytearray(arguments.arrays[-1].tobytes())
    for field, value, reason in (
        ("task_struct_size", 7, "EINVAL: task_struct_size is 7, must be at least 8"),
        ("tasks", 8, "EFAULT: Bad address"),
        ("in_bo_handles", 8, "EFAULT: Bad address"),
    ):
        job = uapi.Job.unpack(whole)
        setattr(job, field, value)
        arguments.arrays[-1][:] = np.frombuffer(job.pack(), np.uint8)
        board.call(uapi.SUBMIT, arguments.submit)
        assert board.kernel.complaints[-1].endswith(f"job 0 is dropped with {reason}")
    assert board.machine.ran == []


def test_wider_structs_are_read_by_their_stride(board: Board) -> None:
    """A newer user space may have longer structs: only their known part is read."""
    tasks = np.array([[board.commands.dma_address, 8, 77], [board.commands.dma_address, 4, 77]],
                     np.uint32)  # fmt: skip
    job = uapi.Job(tasks=tasks.ctypes.data, task_count=2, task_struct_size=12)
    jobs = np.frombuffer(job.pack() + b"\xff" * 8, np.uint8).copy()
    board.call(uapi.SUBMIT, uapi.Submit(jobs=jobs.ctypes.data, job_count=1, job_struct_size=48))
    while board.winsys.file.worker is not None:  # type: ignore[attr-defined]
        time.sleep(0.001)
    assert [(count, where) for _, count, _, where in board.machine.ran] == [
        (8, "submit 0 job 0 task 0"), (4, "submit 0 job 0 task 1"),
    ]  # fmt: skip


def test_strict_kernels_fault(board: Board) -> None:
    strict = Board(strict=True)
    with pytest.raises(SimulatorFault, match=r"^rocket kernel: SUBMIT: submit 0 job 0 is dropped"):
        strict.submit(strict.job(tasks=()))


def test_submit_returns_before_the_job_is_done(board: Board) -> None:
    board.machine.go.clear()
    board.submit(board.job())
    assert board.machine.ran == []
    board.prep(board.input.handle)  # readers leave no fence
    with pytest.raises(DeviceTimeout, match=r"^rocket PREP_BO\(handle=3, .*\): EBUSY, "):
        board.prep(board.output.handle, 0)
    with pytest.raises(DeviceTimeout, match=r"EBUSY"):
        board.call(uapi.PREP_BO, uapi.PrepBo(handle=3, timeout_ns=-5))
    before = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"ETIMEDOUT, Connection timed out \(is another"):
        board.prep(board.output.handle, 0.05)
    assert 0.04 < time.monotonic() - before < 5
    board.machine.go.set()
    board.prep(board.output.handle)
    board.prep(board.output.handle, 0)  # a signalled fence is no reason to wait
    assert len(board.machine.ran) == 1


def test_a_synchronous_kernel_has_run_the_job() -> None:
    board = Board(asynchronous=False)
    board.submit(board.job())
    assert len(board.machine.ran) == 1
    board.prep(board.output.handle, 0)


def test_a_fault_surfaces_where_one_waits(board: Board) -> None:
    other = board.create(100)
    board.machine.error = SimulatorFault("CNA.CONV_CON1: mode 7 is not modelled")
    board.submit(board.job(), board.job(writes=(other.handle,)))
    for handle in (board.output.handle, other.handle):
        with pytest.raises(SimulatorFault, match=r"^CNA.CONV_CON1: mode 7 is not modelled$"):
            board.prep(handle)
    assert len(board.machine.ran) == 1  # what came behind it did not run
    board.machine.error = None
    board.submit(board.job())
    board.prep(board.output.handle)
    board.prep(other.handle)  # it was told once


def test_a_task_that_raises_no_interrupt_of_the_dpu_hangs(board: Board) -> None:
    board.machine.raised = 0xC00
    tasks = ((board.commands.dma_address, 4), (board.commands.dma_address + 32, 4))
    board.submit(board.job(tasks=tasks))
    with pytest.raises(
        SimulatorFault,
        match=r"^submit 0 job 0 task 0: PC\.INTERRUPT_STATUS: its units raise #c00, must raise a"
        r" bit of #300, for which the kernel waits \(the job hangs: .* after 500 ms",
    ):
        board.prep(board.output.handle)
    assert len(board.machine.ran) == 1  # the second one was never started
    board.machine.raised = 0xD00
    board.submit(board.job(tasks=tasks))
    board.prep(board.output.handle)


def test_a_bug_of_the_simulator_leaves_nobody_waiting(board: Board) -> None:
    board.machine.error = KeyError("x")
    board.submit(board.job())
    with pytest.raises(
        SimulatorFault, match=r"^submit 0 job 0: the simulator itself failed with KeyError: 'x'$"
    ):
        board.prep(board.output.handle)


def test_jobs_of_a_file_run_in_order_on_one_core(board: Board) -> None:
    board.machine.go.clear()
    for _ in range(3):
        board.submit(board.job(), board.job())
    board.machine.go.set()
    board.prep(board.output.handle)
    assert [where for *_, where in board.machine.ran] == [
        f"submit {s} job {j} task 0" for s in range(3) for j in range(2)
    ]
    assert {core for _, _, core, _ in board.machine.ran} == {0}


def test_files_have_their_own_cores_and_memory(board: Board) -> None:
    boards = [board, *(Board(board.kernel) for _ in range(3))]
    for each in boards:
        board.machines[boards.index(each)].go.clear()
        each.submit(each.job())
    assert boards[1].output.dma_address == board.output.dma_address
    for machine in board.machines:
        machine.go.set()
    for each in boards:
        each.prep(each.output.handle)
    assert [machine.ran[0][2] for machine in board.machines] == [0, 1, 2, 0]


def test_a_reference_keeps_a_listed_buffer(board: Board) -> None:
    board.machine.go.clear()
    board.submit(board.job())
    board.call(GEM_CLOSE, GemClose(handle=board.output.handle))
    assert board.machine.memory.find(board.output.dma_address) is not None
    board.machine.go.set()
    board.winsys.file.worker.join()  # type: ignore[attr-defined]
    assert board.machine.memory.find(board.output.dma_address) is None
    assert board.kernel.complaints == []


def test_closing_an_unlisted_buffer_under_a_running_job(board: Board) -> None:
    weights, unused = board.create(4096), board.create(4096)
    words = np.zeros(8, "<u8")
    words[0] = command(CNA.DCOMP_ADDR0.unpack(weights.dma_address))
    words[1] = command(DPU.DST_BASE_ADDR.unpack(board.output.dma_address))
    board.winsys.mmap(board.commands.offset, 64)[:] = words.tobytes()
    board.machine.go.clear()
    board.submit(board.job())
    board.call(GEM_CLOSE, GemClose(handle=unused.handle))
    assert board.kernel.complaints == []
    board.call(GEM_CLOSE, GemClose(handle=weights.handle))
    board.call(GEM_CLOSE, GemClose(handle=board.commands.handle))
    assert [text.split(" is used by")[0] for text in board.kernel.complaints] == [
        "GEM_CLOSE: handle 4", "GEM_CLOSE: handle 1",
    ]  # fmt: skip
    assert board.machine.memory.find(weights.dma_address) is None


def test_giving_a_buffer_back_while_it_is_used(board: Board) -> None:
    board.machine.go.clear()
    board.submit(board.job())
    board.call(uapi.FINI_BO, uapi.FiniBo(handle=board.commands.handle))
    assert board.kernel.complaints == []
    board.call(uapi.FINI_BO, uapi.FiniBo(handle=board.input.handle))
    assert board.kernel.complaints[0].startswith("FINI_BO: handle 2 is given back while submit 0")


def test_without_coherent_caches_the_driver_has_to_say_when() -> None:
    board = Board(coherent=False)
    board.winsys.mmap(board.input.offset, 100)[0] = 5
    seen = board.machine.memory.view(board.input.dma_address, 1, "test")
    assert seen[0] == 0
    board.call(uapi.FINI_BO, uapi.FiniBo(handle=board.input.handle))
    assert seen[0] == 5


def test_the_log_is_that_of_a_recording(board: Board) -> None:
    board.submit(board.job())
    board.prep(board.output.handle)
    log = list(board.kernel.log)
    assert log[0] == {
        "seq": 0, "ioctl": "CREATE_BO", "size": 64, "handle": 1, "dma_address": 0x10000000,
        "arg_size": 24,
    }  # fmt: skip
    assert log[3] == {
        "seq": 3, "ioctl": "SUBMIT", "arg_size": 24, "job_struct_size": 40, "reserved": 0,
        "errno": 0,
        "jobs": [{"task_struct_size": 8, "tasks": [[0x10000000, 8]], "in": [2], "out": [3]}],
    }  # fmt: skip
    assert log[4] == {"seq": 4, "ioctl": "PREP_BO", "handle": 3, "timeout_ns": FOREVER}


def test_an_open_file_ends_after_its_jobs(board: Board) -> None:
    board.machine.go.clear()
    board.submit(board.job())
    threading.Timer(0.05, board.machine.go.set).start()
    board.winsys.close()
    assert len(board.machine.ran) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        board.winsys.mmap(board.input.offset, 1)
