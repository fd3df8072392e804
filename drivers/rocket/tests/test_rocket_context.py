"""Contexts: loading, running, waiting, errors, threads; on the fake kernel with a tiny machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, SimulatorFault
from teflon.ir.types import Array, DType, TensorType
from teflon_common.fake_drm import FakeWinsys
from teflon_rocket.canary import Canary
from teflon_rocket.context import RocketContext
from teflon_rocket.program import Job, Port, Reloc, Task
from tests.rocket.board import SHAPE, Board, image, ioctls, program, right


@pytest.fixture
def board() -> Iterator[Board]:
    with Board(strict=True, coherent=False) as made:
        yield made


def test_load_and_run(board: Board) -> None:
    executable = board.context.load(program())
    creates = [e for e in board.kernel.log if e["ioctl"] == "CREATE_BO"]
    assert [e["size"] for e in creates] == [64, 512, 512, 512, 24, 24]
    assert ioctls(board)[6:] == ["PREP_BO", "FINI_BO"] * 3
    for seed in range(3):
        (output,) = board.context.invoke(executable, [image(seed)])
        assert right(output, image(seed))
    submits = [e for e in board.kernel.log if e["ioctl"] == "SUBMIT"]
    assert [[(job["in"], job["out"]) for job in e["jobs"]] for e in submits] == [
        [([2], [3]), ([3], [4])]
    ] * 3
    assert board.kernel.complaints == []


def test_an_inference_is_six_requests(board: Board) -> None:
    executable = board.context.load(program())
    before = len(board.kernel.log)
    board.context.invoke(executable, [image(0)])
    requests = [(e["ioctl"], e.get("handle")) for e in list(board.kernel.log)[before:]]
    assert requests == [
        ("PREP_BO", 4), ("PREP_BO", 2),  # the mark in the output, the input
        ("FINI_BO", 4), ("FINI_BO", 2),
        ("SUBMIT", None), ("PREP_BO", 4),
    ]  # fmt: skip


def test_an_output_that_nobody_wrote_is_an_error() -> None:
    """What a real kernel leaves of a job that hung, faulted or was dropped: a wait that ends."""
    board = Board()
    lost = program(strategy="mesa", jobs=(Job((Task(4, 0, 3),), (1, 1), (3,), "twice"),))
    executable = board.context.load(lost)
    with pytest.raises(
        DeviceError, match=r"^rocket: output 0 'out' was not written by the device, must be \(a job"
    ):
        board.context.invoke(executable, [image(1)])
    assert board.kernel.complaints[0].endswith("must be once")
    good = board.context.load(program())
    assert right(board.context.invoke(good, [image(1)])[0], image(1))


@pytest.mark.parametrize(
    ("shape", "layout", "proves"),
    [((1, 4, 4, 16), "surfaces", True), ((2, 1, 2, 4), "surfaces", True),
     ((1, 1, 1, 7), "surfaces", False), ((1, 9, 9, 1), "rows", False)],
)  # fmt: skip
def test_canaries(shape: tuple[int, ...], layout: str, proves: bool) -> None:
    kind = TensorType(DType.UINT8, shape)
    memory = np.zeros(4096, np.uint8)
    canary = Canary(Port(kind, 0, layout, 64, image_pitch=1024, row_pitch=16), memory)
    assert not canary.alive()
    canary.put()
    assert canary.alive() is proves
    touched = np.nonzero(memory)[0]
    images, height, width, _ = shape
    end = 64 + (images - 1) * 1024 + height * width * 16
    assert all(end - 64 <= place < end for place in touched)
    memory[end - 1 if proves else 0] ^= 1
    assert not canary.alive()


def test_inputs_may_change_after_submit(board: Board) -> None:
    executable = board.context.load(program())
    board.machine.go.clear()
    source = image(1)
    fence = board.context.submit(executable, [source])
    assert not fence.done()
    source[:] = 0
    board.machine.go.set()
    (output,) = fence.wait()
    assert fence.done()
    assert right(output, image(1))
    assert fence.wait()[0] is output


def test_the_next_inference_leaves_the_one_before_alone(board: Board) -> None:
    """Readers leave no fence in this kernel: the context has to keep order by itself."""
    executable = board.context.load(program())
    fences = [board.context.submit(executable, [image(seed)]) for seed in range(4)]
    for seed in (2, 0, 3, 1):
        assert right(fences[seed].wait()[0], image(seed))


def test_programs_do_not_disturb_each_other(board: Board) -> None:
    one, two = board.context.load(program()), board.context.load(program())
    board.machine.go.clear()
    first = board.context.submit(one, [image(1)])
    second = board.context.submit(two, [image(2)])
    assert not first.done()
    board.machine.go.set()
    assert right(second.wait()[0], image(2))
    assert right(first.wait()[0], image(1))


def test_threads(board: Board) -> None:
    executables = [board.context.load(program()) for _ in range(2)]
    wrong: list[int] = []

    def work(number: int) -> None:
        for round_ in range(10):
            source = image(100 * number + round_)
            (output,) = board.context.invoke(executables[number % 2], [source])
            if not right(output, source):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert board.machine.runs == 6 * 10 * 2


def test_timeouts() -> None:
    board = Board(seconds=0.05)
    executable = board.context.load(program())
    board.machine.go.clear()
    fence = board.context.submit(executable, [image(1)])
    with pytest.raises(DeviceTimeout, match=r"^rocket PREP_BO\(handle=4, .*ETIMEDOUT, .*NPU\?"):
        fence.wait(0.02)
    with pytest.raises(DeviceTimeout, match=r"EBUSY"):
        fence.wait(0)
    before = time.monotonic()
    with pytest.raises(DeviceTimeout):
        board.context.submit(executable, [image(2)])  # the one before it does not end
    assert 0.5 < time.monotonic() - before < 5  # half a second for each of its jobs
    board.machine.go.set()
    assert right(fence.wait()[0], image(1))
    assert right(board.context.invoke(executable, [image(2)])[0], image(2))


def test_waiting_while_another_thread_waits(board: Board) -> None:
    executable = board.context.load(program())
    board.machine.go.clear()
    fence = board.context.submit(executable, [image(1)])
    waiter = threading.Thread(target=fence.wait)
    waiter.start()
    while not executable.lock.locked():
        time.sleep(0.001)
    assert not fence.done()
    with pytest.raises(DeviceTimeout, match=r"^rocket: an inference is not done after 0.02 s, "):
        fence.wait(0.02)
    board.machine.go.set()
    waiter.join()
    assert right(fence.wait(0)[0], image(1))


def test_after_a_fault_the_next_inference_works(board: Board) -> None:
    executable = board.context.load(program())
    board.machine.fault = "DPU: mode 7 is not modelled"
    fence = board.context.submit(executable, [image(1)])
    for _ in range(2):
        with pytest.raises(
            SimulatorFault, match=r"^submit 0 job 0 task 0: DPU: mode 7 is not modelled$"
        ):
            fence.wait()
    lost = board.context.submit(executable, [image(2)])
    board.machine.go.wait()
    while not lost.done():
        time.sleep(0.001)
    board.machine.fault = ""
    assert right(board.context.invoke(executable, [image(3)])[0], image(3))
    with pytest.raises(SimulatorFault, match=r"^submit 1 "):
        lost.wait()


def test_a_dropped_job_is_no_silence(board: Board) -> None:
    bad = program(strategy="mesa", jobs=(Job((Task(4, 0, 3),), (1, 1), (2,), "twice"),))
    executable = board.context.load(bad)
    with pytest.raises(SimulatorFault, match=r"dropped with EALREADY: handle 2 is in the buffer"):
        board.context.submit(executable, [image(1)])


def test_buffer_lists_name_a_buffer_once(board: Board) -> None:
    """Mesa lists what it lists; every other strategy must not lose jobs to this kernel."""
    jobs = (Job((Task(4, 0, 3),), (1, 1, 2), (2,), ""), Job((Task(5, 0, 3),), (2, 2), (3,), ""))
    executable = board.context.load(program(jobs=jobs))
    assert right(board.context.invoke(executable, [image(1)])[0], image(1))
    submit = next(e for e in board.kernel.log if e["ioctl"] == "SUBMIT")
    assert [(job["in"], job["out"]) for job in submit["jobs"]] == [([2], [3]), ([3], [4])]


def test_out_of_memory() -> None:
    board = Board(memory_limit=3 * 4096)
    for _ in range(2):  # what was made before the failure is free again
        with pytest.raises(
            DeviceError,
            match=r"^rocket CREATE_BO\(size=512, .*ENOMEM, Cannot allocate memory "
            r"\(the machine is out of memory: close other models or programs\)$",
        ):
            board.context.load(program())
    assert not board.context.winsys.file.handles  # type: ignore[attr-defined]
    full = Board(end_address=0x10002000)
    with pytest.raises(DeviceError, match=r"ENOSPC.*4 GiB address space"):
        full.context.load(program())


def test_addresses_beyond_32_bits() -> None:
    board = Board(first_address=(1 << 32) - 4096, end_address=1 << 40)
    with pytest.raises(
        DeviceError, match=r"^rocket CREATE_BO: 512 bytes lie at 0x100001000, must end below"
    ):
        board.context.load(program())
    assert not board.context.winsys.file.handles  # type: ignore[attr-defined]


def test_wrong_programs(board: Board) -> None:
    with pytest.raises(ProgramError, match=r"^program: chip is 'rk1', must be 'rk3588' \(compile"):
        board.context.load(program(chip="rk1"))
    with pytest.raises(ProgramError, match=r"^program: an address goes to buffer 1, which has no"):
        board.context.load(program(relocs=(Reloc(1, 0, 2, 0),)))
    assert not board.context.winsys.file.handles  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "program: 0 inputs were given, must be 1"),
        (
            [np.zeros((1, 4, 4, 3), np.uint8)],
            r"program: input 0 is uint8\[1, 4, 4, 3\], must be uint8\[1, 4, 4, 16\]",
        ),
        (
            [np.zeros(SHAPE, np.int8)],
            r"program: input 0 is int8\[1, 4, 4, 16\], must be uint8\[1, 4, 4, 16\]",
        ),
    ],
)
def test_wrong_inputs(board: Board, inputs: list[Array], message: str) -> None:
    executable = board.context.load(program())
    with pytest.raises(OptionError, match=f"^{message}$"):
        board.context.submit(executable, inputs)


def test_closing(board: Board) -> None:
    one, two = board.context.load(program()), board.context.load(program())
    fence = board.context.submit(one, [image(1)])
    one.close()
    one.close()
    assert right(fence.wait()[0], image(1))  # what was under way is finished first
    with pytest.raises(DeviceError, match=r"^rocket: the program was closed, must be loaded again"):
        board.context.submit(one, [image(1)])
    assert right(board.context.invoke(two, [image(2)])[0], image(2))
    assert sorted(board.context.winsys.file.handles) == list(range(7, 13))  # type: ignore[attr-defined]
    with board.context:
        pass
    board.context.close()
    assert not board.context.winsys.file.handles  # type: ignore[attr-defined]
    with pytest.raises(DeviceError, match=r"^rocket: the device was closed, must be opened again$"):
        board.context.load(program())


def test_contexts_of_one_kernel() -> None:
    board = Board(strict=True)
    other = RocketContext(board.context.device, FakeWinsys(board.kernel))
    both = [(context, context.load(program())) for context in (board.context, other)]
    fences = [context.submit(e, [image(n)]) for n, (context, e) in enumerate(both)]
    for number, fence in enumerate(fences):
        assert right(fence.wait()[0], image(number))
    with pytest.raises(ProgramError, match=r"^program: was loaded by another context, must be"):
        board.context.submit(both[1][1], [image(0)])
    board.context.close()
    context, executable = both[1]
    assert right(context.invoke(executable, [image(9)])[0], image(9))


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_leaves_its_parent_alone(board: Board) -> None:
    executable = board.context.load(program())
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            board.context.submit(executable, [image(0)])
        except DeviceError as error:
            os.write(writer, str(error).encode())
        executable.close()
        board.context.close()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read().startswith("rocket: was opened by process")
    assert os.waitpid(child, 0)[1] == 0
    assert right(board.context.invoke(executable, [image(1)])[0], image(1))
