"""Strategy `exact` with a buffer for each tensor and a job for each operation, as Mesa has them:
all tensors can be looked at, and programs compared with Mesa's.
"""

from __future__ import annotations

from collections.abc import Sequence

from teflon_rocket.assemble import Assembler
from teflon_rocket.chips import Chip
from teflon_rocket.exact.strategy import Exact
from teflon_rocket.jobs import buffers, tasks_of
from teflon_rocket.memory import Content, Memory
from teflon_rocket.mesa.memory import apart
from teflon_rocket.operations.commands import strict
from teflon_rocket.program import Job, each_once


def one_each(contents: Sequence[Content], memory: Memory, _chip: Chip) -> list[Job]:
    """Return a job for each operation; it lists feature maps only."""
    jobs = []
    for content in contents:
        op, tasks = content.operation, tuple(tasks_of(content, memory))
        reads, writes = tuple(buffers(memory, op.reads)), tuple(buffers(memory, op.writes))
        jobs.append(each_once(Job(tasks, reads, writes, op.name, ((op.name, len(tasks)),))))
    return jobs


APART = Exact(Assembler(strict, apart, one_each))
