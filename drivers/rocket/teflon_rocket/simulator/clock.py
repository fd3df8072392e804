# Ref: docs/hardware/rocket.md §1.1 (MACs per cycle), §4.3 (groups of channels and kernels: what the
# Ref: array takes in a cycle), §6.2 (weight reuse), §8.1 (which unit reads and writes what)
"""How long a task takes and which bytes it touches, by what its units were told.

Times are sums of the array's cycles and of the bytes that the DMAs move, at the chip's rates. The
driver's own model of time (`teflon_rocket.timing`) counts the same from a compiled program; a test
holds one against the other.
"""

from dataclasses import dataclass

from teflon.timing.schedule import Span, merged
from teflon_rocket.chips import Chip, Rates

from .cube import ATOM
from .task import Task

_COMMAND = 8
"""Bytes of a command."""


@dataclass(frozen=True)
class Work:
    """What one task costs: cycles of the array, bytes that each DMA moves; and the bytes' places.

    `reused` bytes of weights stay in the core's buffer from the task before.
    """

    macs: int = 0
    cycles: int = 0
    commands: int = 0
    features: int = 0
    weights: int = 0
    operands: int = 0
    """Per channel: the BRDMA's stream."""
    addition: int = 0
    """The element-wise operand."""
    written: int = 0
    reused: int = 0
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()

    @property
    def read(self) -> int:
        """Bytes read from DRAM."""
        return self.commands + self.features + self.weights + self.operands + self.addition

    def milliseconds(self, rates: Rates, sharing: float = 1.0) -> float:
        """Return how long it takes; `sharing`: by how much memory is slower than for one core."""
        return self.cycles / rates.cycles + sharing * (self.read + self.written) / rates.memory


NOTHING = Work()


def work(task: Task, address: int, count: int, chip: Chip) -> Work:
    """Return the work of a decoded command list of `count` words at an address."""
    commands = Span(address, address + _COMMAND * count)
    if task.empty:
        return Work(commands=_COMMAND * count, reads=(commands,))
    weights, cube = task.cna.weights, task.dpu
    pixels = cube.width * cube.height
    padded = pixels * cube.padded_channels
    parts = [commands, *_features(task), Span(weights.address, weights.address + weights.size)]
    if task.rdma.bs_use:
        parts.append(Span(task.rdma.bs_address, task.rdma.bs_address + _stream(task)))
    surfaces = cube.padded_channels // ATOM  # lanes behind the last channel may be touched, too
    if (operand := task.rdma.operand) is not None:
        parts += _surfaces(operand.address, surfaces, operand.surface_bytes, pixels * ATOM)
    written = _surfaces(cube.address, surfaces, cube.surface_bytes, pixels * ATOM)
    return Work(
        macs=task.macs,
        cycles=pixels * _taps(task) * _passes(task, chip),
        commands=_COMMAND * count,
        features=_fetched(task),
        weights=0 if task.cna.reuse else weights.size,
        operands=_stream(task),
        addition=0 if operand is None else padded,
        written=padded,
        reused=weights.size if task.cna.reuse else 0,
        reads=merged(parts),
        writes=merged(written),
    )


def _taps(task: Task) -> int:
    height, width = task.cna.weights.kernel
    return height * width


def _passes(task: Task, chip: Chip) -> int:
    """How often the array must look at a tap: groups of weights as they lie in memory."""
    weights = task.cna.weights
    if weights.depthwise:
        return -(-weights.channels // chip.depthwise_channels)
    groups = -(-weights.kernels // chip.kernel_group)
    return groups * -(-weights.channels // chip.weight_channels)


def _fetched(task: Task) -> int:
    features = task.cna.features
    return features.rows * features.width * (features.interleaved or features.channels)


def _features(task: Task) -> list[Span]:
    """Where the input lies: surfaces of whole rows, or rows of interleaved pixels."""
    features = task.cna.features
    row = features.width * (features.interleaved or ATOM)
    size = (features.rows - 1) * features.row_bytes + row
    if features.interleaved:
        return [Span(features.address, features.address + size)]
    count = features.channels // ATOM
    return _surfaces(features.address, count, features.surface_bytes, size)


def _surfaces(address: int, count: int, stride: int, size: int) -> list[Span]:
    starts = (address + number * stride for number in range(count))
    return [Span(start, start + size) for start in starts]


_BIAS, _COMPENSATION, _MULTIPLIER = (1, 4), (2, 2), (4, 2)
"""Bit of BRDMA_DATA_USE, bytes of a channel."""


def _stream(task: Task) -> int:
    """Bytes of operands per channel: of whole groups of four unless there are biases only."""
    used = [size for bit, size in (_BIAS, _COMPENSATION, _MULTIPLIER) if task.rdma.bs_use & bit]
    channels = task.dpu.channels
    return channels * sum(used) if used == [4] else -(-channels // 4) * 4 * sum(used)
