# Ref: docs/hardware/rocket.md §1.1 (MACs per cycle), §4.3 (groups of channels and kernels: what the
# Ref: array takes in a cycle), §6.2 (weight reuse), §8.1 (which unit reads and writes what)
"""What a convolution costs, and which bytes it touches."""

from __future__ import annotations

from teflon.timing.schedule import Span, merged
from teflon_rocket.chips import Chip

from ..clock import COMMAND_BYTES, Work, surfaces
from ..cube import ATOM
from .task import ConvolutionTask


def work(task: ConvolutionTask, address: int, count: int, chip: Chip) -> Work:
    """Return the work of a decoded command list of `count` words at an address."""
    commands = Span(address, address + COMMAND_BYTES * count)
    if task.empty:
        return Work(commands=COMMAND_BYTES * count, reads=(commands,))
    weights, cube = task.cna.weights, task.dpu
    pixels = cube.width * cube.height
    padded = pixels * cube.padded_channels
    streams = [stream for stream in (task.rdma.bs, task.rdma.bn) if stream.use]
    parts = [commands, *_features(task), Span(weights.address, weights.address + weights.size)]
    parts += [stream.span for stream in streams]
    atoms = cube.padded_channels // ATOM  # with lanes that hold no channel
    if (operand := task.rdma.operand) is not None:
        parts += surfaces(operand.address, atoms, operand.surface_bytes, pixels * ATOM)
    surface = cube.write.surface(cube.height, cube.width)
    written = surfaces(cube.write.address, atoms, cube.write.surface_bytes, surface)
    return Work(
        macs=task.macs,
        cycles=pixels * _taps(task) * _passes(task, chip),
        commands=COMMAND_BYTES * count,
        features=_fetched(task),
        weights=0 if task.cna.reuse else weights.size,
        operands=sum(stream.size for stream in streams),
        addition=0 if operand is None else padded,
        written=padded,
        reused=weights.size if task.cna.reuse else 0,
        reads=merged(parts),
        writes=merged(written),
    )


def _taps(task: ConvolutionTask) -> int:
    height, width = task.cna.weights.kernel
    return height * width


def _passes(task: ConvolutionTask, chip: Chip) -> int:
    """Return the cycles of a tap of one pixel: as many as there are groups of weights."""
    weights = task.cna.weights
    if weights.depthwise:
        return -(-weights.channels // chip.depthwise_channels)
    groups = -(-weights.kernels // chip.kernel_group)
    return groups * -(-weights.channels // chip.weight_channels)


def _fetched(task: ConvolutionTask) -> int:
    features = task.cna.features
    return features.rows * features.width * (features.interleaved or features.channels)


def _features(task: ConvolutionTask) -> list[Span]:
    """Return where the input lies: surfaces of whole rows, or rows of interleaved pixels."""
    features = task.cna.features
    row = features.width * (features.interleaved or ATOM)
    size = (features.rows - 1) * features.row_bytes + row
    if features.interleaved:
        return [Span(features.address, features.address + size)]
    count = features.channels // ATOM
    return surfaces(features.address, count, features.surface_bytes, size)
