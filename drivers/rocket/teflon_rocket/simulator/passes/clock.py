# Ref: docs/hardware/rocket_vendor.md §2 (elementwise, copies: which unit reads and writes what)
"""What a pass costs, and which bytes it touches. How fast the DPU itself computes is not known:
the DMAs take the time.
"""

from __future__ import annotations

from teflon.timing.schedule import Span, merged

from ..clock import COMMAND_BYTES, Work, surfaces
from ..cube import ATOM
from .reader import Source
from .task import PassTask


def work(task: PassTask, address: int, count: int) -> Work:
    """Return the work of a decoded command list of `count` words at an address."""
    read, write, times = task.read, task.dpu.write, task.read.repeat
    pixels = read.surfaces * read.width * read.height
    streams = [stream for stream in (task.bs, task.bn) if stream.use]
    parts = [Span(address, address + COMMAND_BYTES * count), *_spans(task, read.main)]
    parts += [stream.span for stream in streams]
    addition = 0
    if read.operand is not None:
        parts += _spans(task, read.operand)
        addition = ATOM * (pixels if read.operand.pixel_bytes else read.surfaces)
    extent = write.surface(task.dpu.height, task.dpu.width) + (times - 1) * task.line_bytes
    return Work(
        commands=COMMAND_BYTES * count,
        features=pixels * ATOM,
        operands=sum(stream.size for stream in streams),
        addition=addition,
        written=pixels * ATOM * times * times,
        reads=merged(parts),
        writes=merged(surfaces(write.address, task.surfaces, write.surface_bytes, extent)),
    )


def _spans(task: PassTask, source: Source) -> list[Span]:
    """Return where the pixels lie that are read, surface by surface."""
    read = task.read
    size = (read.height - 1) * source.row_bytes + (read.width - 1) * source.pixel_bytes + ATOM
    if source.surface_bytes < 0:
        start = source.address + (read.surfaces - 1) * source.surface_bytes
        return surfaces(start, read.surfaces, -source.surface_bytes, size)
    return surfaces(source.address, read.surfaces, source.surface_bytes, size)
