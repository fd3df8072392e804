"""The simulated RK3588's clock beside the driver's model of time, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TypeVar

import pytest

from teflon.pipe import Cost, Executable
from teflon.timing.schedule import Run, Schedule
from teflon_common.fake_drm import FakeWinsys
from teflon_rocket import timing
from teflon_rocket.chips import RATES
from teflon_rocket.context import RocketContext, RocketExecutable
from teflon_rocket.simulator.clock import Work
from teflon_rocket.simulator.jobs import RocketFile
from teflon_rocket.simulator.kernel import RocketKernel

T = TypeVar("T")


def file_of(context: RocketContext) -> RocketFile:
    """Return a simulated context's open file, as the kernel has it."""
    winsys = context.winsys
    assert isinstance(winsys, FakeWinsys)
    assert isinstance(winsys.file, RocketFile)
    return winsys.file


def schedule_of(context: RocketContext) -> Schedule:
    """Return what the chip of a simulated context has done."""
    winsys = context.winsys
    assert isinstance(winsys, FakeWinsys)
    assert isinstance(winsys.kernel, RocketKernel)
    return winsys.kernel.schedule()


def last_runs(executable: RocketExecutable) -> list[Run]:
    """Return the jobs of the executable's last inference."""
    file = file_of(executable.context)
    runs = [run for run in schedule_of(executable.context).runs if run.file == file.number]
    return runs[len(runs) - len(executable.jobs) :]


def check_time(loaded: Executable) -> int:
    """Compare both models on a program that was just run; return how many operations it has.

    Cycles and bytes come on one side from the registers and addresses that the simulated units
    saw, on the other from the compiled program: they are equal. Times are equal but for rounding.
    """
    assert isinstance(loaded, RocketExecutable)
    machine, program = file_of(loaded.context).machine, loaded.program
    works: list[tuple[str, Work]] = []
    for job, lists in zip(program.jobs, loaded.jobs, strict=True):
        names = (
            job.task_names if len(job.task_names) == len(job.tasks) else [job.name] * len(job.tasks)
        )
        works += [(n, machine.work(*task)) for n, task in zip(names, lists.tasks, strict=True)]
    costs = [(c.name, c) for c in timing.costs(program) if c.engine == "npu"]
    seen, told = _sums(works, _of_work), _sums(costs, _of_cost)
    assert seen == told
    runs = last_runs(loaded)
    milliseconds = sum(run.end - run.start for run in runs)
    assert milliseconds == pytest.approx(sum(cost.total_ms for _, cost in costs), rel=1e-9)
    rates = RATES[program.chip]
    launches = len(program.jobs) * rates.job
    assert milliseconds == pytest.approx(launches + sum(w.milliseconds(rates) for _, w in works))
    return len(told)


def _sums(
    listed: Iterable[tuple[str, T]], counts: Callable[[T], tuple[int, ...]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Return (operation, its sums) of consecutive tasks or costs of one name."""
    found = []
    for name, group in groupby(listed, lambda pair: pair[0]):
        rows = [counts(thing) for _, thing in group]
        found.append((name, tuple(map(sum, zip(*rows, strict=True)))))
    return found


def _of_work(work: Work) -> tuple[int, ...]:
    coefficients = work.weights + work.operands
    return work.cycles, work.read, work.written, coefficients, work.reused


def _of_cost(cost: Cost) -> tuple[int, ...]:
    return (
        cost.array_cycles, cost.dram_read, cost.dram_written, cost.coefficient_bytes,
        cost.sram_hits,
    )  # fmt: skip
