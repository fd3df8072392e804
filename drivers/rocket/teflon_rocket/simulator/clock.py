# Ref: docs/hardware/rocket.md §8.1 (which unit reads and writes what)
"""How long a task takes and which bytes it touches, by the registers of its units.

Times are sums of the array's cycles and of the bytes that the DMAs move, at the chip's rates. Each
kind of task counts its own. The driver's model of time (`teflon_rocket.timing`) counts the same
from a compiled program; a test holds one against the other.
"""

from dataclasses import dataclass

from teflon.timing.schedule import Span
from teflon_rocket.chips import Rates

COMMAND_BYTES = 8


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


def surfaces(address: int, count: int, stride: int, size: int) -> list[Span]:
    """Return where `size` bytes of each of some surfaces lie, `stride` bytes apart."""
    starts = (address + number * stride for number in range(count))
    return [Span(start, start + size) for start in starts]
