# Ref: docs/hardware/rocket.md §1.6 (order of jobs, their time limit), §2.2 (buffer lists)
"""Which tasks make a job: those of as many operations as the kernel's time limit allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from teflon_rocket.chips import Chip
from teflon_rocket.memory import Content, Memory, Place
from teflon_rocket.operations.data import Feature
from teflon_rocket.program import Job, Task

JOB_SECONDS = 0.1
"""Work of one job, in the worst case; the kernel resets the core after 0.5."""

_SLOW_BYTES = 1e9  # of memory each second, while others use it as well
_SLOW_PART = 16  # of the array's multipliers, one in so many is at work
_SLOW_TASK = 1e-4  # interrupt, thread, start of the next task

MakeJobs = Callable[[Sequence[Content], Memory, Chip], list[Job]]


def chained(contents: Sequence[Content], memory: Memory, chip: Chip) -> list[Job]:
    """Return as few jobs as the time limit allows.

    Tasks of a job run in order on one core, so what one writes the next may read. Everything that
    is used is listed: a job keeps only those buffers alive which it names, and one that it writes
    must not be among those that it reads.
    """
    return [_job(group, memory) for group in _timed(contents, chip)]


def buffers(memory: Memory, features: Sequence[Feature]) -> list[int]:
    """Return the buffer of each feature map."""
    return [memory.places[feature].buffer for feature in features]


def tasks_of(content: Content, memory: Memory) -> list[Task]:
    """Return the tasks of an operation."""
    place = memory.places[content.lists]
    return [Task(place.buffer, place.offset + one.offset, one.words) for one in content.lists.lists]


def slowest_seconds(macs: int, moved: int, tasks: int, chip: Chip) -> float:
    """Return a bound on the time of some tasks; far from an estimate."""
    slow_macs = chip.macs_per_cycle * chip.clock_hz / _SLOW_PART
    return macs / slow_macs + moved / _SLOW_BYTES + tasks * _SLOW_TASK


def _timed(contents: Sequence[Content], chip: Chip) -> list[list[Content]]:
    """Return the operations in groups that are done long before the kernel gives up."""
    groups: list[list[Content]] = []
    left = 0.0
    for content in contents:
        op = content.operation
        seconds = slowest_seconds(op.performed, content.moved, op.tasks, chip)
        if not groups or seconds > left:
            groups.append([])
            left = JOB_SECONDS
        groups[-1].append(content)
        left -= seconds
    return groups


def _job(group: Sequence[Content], memory: Memory) -> Job:
    operations = [content.operation for content in group]
    written = [feature for op in operations for feature in op.writes]
    writes = dict.fromkeys(buffers(memory, written))
    used = dict.fromkeys(place.buffer for content in group for place in _used(content, memory))
    reads = [buffer for buffer in used if buffer not in writes]
    tasks = [task for content in group for task in tasks_of(content, memory)]
    first, last = operations[0].name, operations[-1].name
    return Job(
        tuple(tasks),
        tuple(reads),
        tuple(writes),
        f"{first} to {last}" if len(operations) > 1 else first,
        tuple((op.name, op.tasks) for op in operations),
    )


def _used(content: Content, memory: Memory) -> Iterator[Place]:
    """Yield where everything lies that an operation reads or writes."""
    yield from (memory.places[constant] for constant in content.operation.constants)
    yield memory.places[content.lists]
    yield from (memory.places[feature] for feature in content.operation.features)
