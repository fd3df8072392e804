"""The simulated RK3588's clock: as the model of time says, and schedules without problems."""

from __future__ import annotations

import dataclasses
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph, plan_model
from teflon.compile.source import read_graph
from teflon.errors import SimulatorFault
from teflon.run.cores import Pool
from teflon.run.model import Model
from teflon.samples import models
from teflon.timing.estimate import estimate
from teflon_common.drm import call
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_rocket import uapi
from teflon_rocket.chips import RATES, RK3588
from teflon_rocket.context import RocketContext, RocketExecutable
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import RocketProgram
from teflon_rocket.simulator.kernel import RocketKernel
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.simulator.policy import LENIENT
from teflon_rocket.simulator.timeonly import TimeOnly
from tests.paths import MODELS, needs_shared
from tests.rocket.times import check_time, file_of, last_runs, schedule_of

PATH = models.resolve("digits_int8")
DIGITS = read_graph(PATH)
DEVICE = RocketDevice("rk3588")


def quick(memory: DeviceMemory) -> TimeOnly:
    return TimeOnly(RK3588, memory, LENIENT)


def programs(path: Path, strategy: str = "exact") -> list[RocketProgram]:
    device = RocketDevice("rk3588", {"strategy": strategy})
    plan = plan_model(read_graph(path), device)
    made = (device.compile(part.graph) for part in plan.partitions if part.device == 0)
    return [program for program in made if isinstance(program, RocketProgram)]


def zeros(program: RocketProgram) -> list[np.ndarray]:
    return [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]


def invoke(context: RocketContext, program: RocketProgram) -> RocketExecutable:
    loaded = context.load(program)
    context.invoke(loaded, zeros(program))
    return loaded


@needs_shared
@pytest.mark.parametrize("strategy", ["exact", "mesa"])
@pytest.mark.parametrize(
    "name", ["mobilenet_v1_1.0_224_quant", "ssdlite_mobiledet_coco_qat_postprocess", "yolox"]
)
def test_whole_models_take_what_is_estimated(name: str, strategy: str) -> None:
    """Cycles and bytes of each operation are equal, found from registers and from the program."""
    assert MODELS is not None
    path = MODELS / f"{name}.tflite"
    with RocketContext(DEVICE, FakeWinsys(RocketKernel(RK3588, machine=quick))) as context:
        counts = [check_time(invoke(context, p)) for p in programs(path, strategy)]
        assert sum(counts) > 20
        assert schedule_of(context).problems() == []


def test_one_job_after_the_other_and_the_clock_goes_on() -> None:
    (program, *_) = programs(PATH, "mesa")
    kernel = RocketKernel(RK3588, machine=quick)
    with RocketContext(DEVICE, FakeWinsys(kernel)) as context:
        loaded = context.load(program)
        clock = file_of(context).clock
        context.invoke(loaded, zeros(program))
        runs = last_runs(loaded)
        assert len(runs) == len(program.jobs) > 1
        assert [(r.submit, r.job, r.submitted) for r in runs] == [
            (0, n, 0.0) for n in range(len(runs))
        ]
        assert all(a.end == b.start for a, b in pairwise(runs))
        assert clock.now == runs[-1].end > len(runs) * RATES["rk3588"].job
        clock.advance(1.0)
        context.invoke(loaded, zeros(program))
        assert last_runs(loaded)[0].start == runs[-1].end + 1.0
        assert kernel.schedule().problems() == []
        assert kernel.schedule().lost == 0


def test_memory_that_is_shared_takes_longer() -> None:
    (program, *_) = programs(PATH)
    times = []
    for sharing in (1.0, 3.0):
        kernel = RocketKernel(RK3588, machine=quick, sharing=sharing)
        with RocketContext(DEVICE, FakeWinsys(kernel)) as context:
            loaded = invoke(context, program)
            times.append(sum(r.end - r.start for r in last_runs(loaded)))
            works = [file_of(context).machine.work(*t) for j in loaded.jobs for t in j.tasks]
    memory = sum(w.read + w.written for w in works) / RATES["rk3588"].memory
    assert times[1] - times[0] == pytest.approx(2 * memory)


def test_the_time_only_machine_refuses_what_the_other_refuses() -> None:
    for kind in (Machine, TimeOnly):
        memory = DeviceMemory()
        memory.map(0x1000, np.zeros(64, np.uint8), "commands")
        machine = kind(RK3588, memory)
        with pytest.raises(SimulatorFault, match=r"task: PC\.OPERATION_ENABLE"):
            machine.run_task(0x1000, 8)
        with pytest.raises(SimulatorFault, match="regcmd_count is 0"):
            machine.work(0x1000, 0)


# what a driver may do wrong


@pytest.fixture
def loaded() -> RocketExecutable:
    """A program of several jobs, on a kernel that answers a submit when its jobs are done."""
    (program, *_) = programs(PATH, "mesa")
    kernel = RocketKernel(RK3588, machine=quick, asynchronous=False)
    return RocketContext(DEVICE, FakeWinsys(kernel)).load(program)


def test_a_result_that_is_read_without_waiting_is_found(loaded: RocketExecutable) -> None:
    """Jobs that do not say what they write leave no fence: nobody can wait for them."""
    context, program = loaded.context, loaded.program
    context.invoke(loaded, zeros(program))
    assert schedule_of(context).problems() == []
    silent = uapi.submit_arguments([dataclasses.replace(job, writes=()) for job in loaded.jobs])
    call(context.winsys, uapi.ROCKET, uapi.SUBMIT, silent.submit)
    loaded.buffers[program.output_ports[0].buffer].prepare()
    problems = schedule_of(context).problems()
    assert problems
    assert all("the CPU reads" in p and "writes there until" in p for p in problems)


def test_an_input_that_is_written_too_soon_is_found(loaded: RocketExecutable) -> None:
    context, program = loaded.context, loaded.program
    context.submit(loaded, zeros(program))  # in modelled time it is under way
    number = program.input_ports[0].buffer
    loaded.buffers[number].finish()
    problems = schedule_of(context).problems()
    assert problems
    assert all("the CPU wrote" in problem for problem in problems)
    assert any("reads there until" in problem for problem in problems)


# several files, several threads


def models_on(kernel: RocketKernel, count: int) -> list[Model]:
    contexts = [RocketContext(DEVICE, FakeWinsys(kernel)) for _ in range(count)]
    artefact = compile_graph(DIGITS, DEVICE, NONE)
    return [Model(artefact, context, owned=False) for context in contexts]


@pytest.mark.parametrize("workers", [1, 3, 6])
def test_a_pool_of_files(workers: int) -> None:
    """The real pool with its threads, on a machine that only keeps time."""
    kernel = RocketKernel(RK3588, machine=quick)
    count = 30
    with Pool(models_on(kernel, workers)) as pool:
        assert len(list(pool.map([np.zeros((1, 8, 8, 1), np.int8)] * count))) == count
    made = kernel.schedule()
    assert kernel.complaints == []
    assert made.problems() == []
    partitions = sum(p.device == 0 for p in pool.models[0].plan.partitions)
    assert len({(r.file, r.submit) for r in made.runs}) == count * partitions
    assert len(made.touches) > 2 * count * partitions
    busy = made.busy()
    assert sum(busy) == pytest.approx(sum(r.end - r.start for r in made.runs))
    if workers > 1:
        assert sum(ms > 0 for ms in busy) > 1


def test_three_files_at_once_take_no_longer_than_one() -> None:
    """One thread submits in the order of time, so the result is the same every time."""
    kernel = RocketKernel(RK3588, machine=quick)
    (program, *_) = programs(PATH)
    contexts = [RocketContext(DEVICE, FakeWinsys(kernel)) for _ in range(4)]
    loaded = [context.load(program) for context in contexts]
    fences = [c.submit(e, zeros(program)) for c, e in zip(contexts, loaded, strict=True)]
    for fence in fences:
        fence.wait()
    firsts = [last_runs(e)[0] for e in loaded]
    assert [run.core for run in firsts] == [0, 1, 2, 0]
    assert [run.start for run in firsts][:3] == [0.0, 0.0, 0.0]
    assert firsts[3].start == last_runs(loaded[0])[-1].end
    assert kernel.schedule().problems() == []
    assert len({file_of(c).clock.now for c in contexts[:3]}) == 1


def test_many_threads_on_one_file() -> None:
    kernel = RocketKernel(RK3588, machine=quick)
    (model,) = models_on(kernel, 1)
    threads = [
        threading.Thread(target=model, args=(np.zeros((1, 8, 8, 1), np.int8),)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = kernel.schedule()
    assert made.problems() == []
    assert all(a.end <= b.start for a, b in pairwise(made.runs))


def test_cores_of_a_loaded_model() -> None:
    with teflon.load(PATH, "sim:rk3588", cores=3, simulate="time", cache="off") as model:
        assert len(list(model.map([np.zeros((1, 8, 8, 1), np.int8)] * 30))) == 30
        assert model.timeline is not None
        made = model.timeline.schedule()
    partitions = sum(part.device == 0 for part in model.plan.partitions)
    assert made.problems() == []
    assert len({(run.file, run.submit) for run in made.runs}) == 30 * partitions
    assert len({run.file for run in made.runs}) == made.cores == 3
    with teflon.load(PATH, "cpu", cache="off") as model:
        assert model.timeline is None


@needs_shared
def test_a_split_inference_takes_what_is_estimated() -> None:
    """Stages follow one another, also where their parts ran on other cores."""
    assert MODELS is not None
    path = MODELS / "mobilenet_v1_1.0_224_quant.tflite"
    with teflon.load(
        path, "sim:rk3588", cores=3, mode="latency", simulate="time", cache="off"
    ) as model:
        model.run(np.zeros((1, 224, 224, 3), np.uint8))
        assert model.timeline is not None
        made = model.timeline.schedule()
        cost = estimate(model.artefact)
    assert made.problems() == []
    assert sum(ms > 0 for ms in made.busy()) == 3
    assert made.end == pytest.approx(sum(step.cost.total_ms for step in cost.on_chip()))
    assert sum(made.busy()) > 1.5 * made.end
