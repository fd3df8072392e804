# Ref: docs/hardware/rocket.md §6.2 (weight reuse), §2.2 (buffers that are named twice)
"""Mesa's jobs: one for each convolution, or for each task where the weights are loaded again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from teflon_rocket.chips import Chip
from teflon_rocket.jobs import buffers, tasks_of
from teflon_rocket.memory import Content, Memory
from teflon_rocket.operations.convolution import Convolution
from teflon_rocket.program import Job, Task


def mesa_jobs(contents: Sequence[Content], memory: Memory, _chip: Chip) -> list[Job]:
    """Return Mesa's jobs; they list feature maps, one that is read twice two times."""
    return [
        Job(
            tasks,
            tuple(buffers(memory, content.operation.reads)),
            tuple(buffers(memory, content.operation.writes)),
            content.operation.name,
            ((content.operation.name, len(tasks)),),
        )
        for content in contents
        for tasks in _groups(content, memory)
    ]


def _groups(content: Content, memory: Memory) -> Iterator[tuple[Task, ...]]:
    tasks, op = tasks_of(content, memory), content.operation
    if isinstance(op, Convolution) and not op.split.reuse:
        yield from ((task,) for task in tasks)
    else:
        yield tuple(tasks)
