"""The simulated chips of this process: whoever opens one that is in use gets the same."""

import os
import threading
import weakref
from dataclasses import dataclass

from teflon.schedule import Timeline
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import CHIPS

from .jobs import RocketFile
from .kernel import RocketKernel
from .machine import Machine
from .policy import STRICT
from .timeonly import TimeOnly


@dataclass(frozen=True)
class Board:
    """Which chip, and how it is simulated.

    time_only: nothing is computed. shared_memory: all cores at work wait for one memory.
    """

    chip: str
    time_only: bool = False
    shared_memory: bool = False

    def kernel(self) -> RocketKernel:
        """Return a kernel that drives a chip of this kind and refuses all misuse."""
        chip = CHIPS[self.chip]
        kind = TimeOnly if self.time_only else Machine

        def machine(memory: DeviceMemory) -> Machine:
            return kind(chip, memory, STRICT)

        sharing = float(chip.cores) if self.shared_memory else 1.0
        return RocketKernel(chip, machine=machine, sharing=sharing, strict=True)


_lock = threading.Lock()
_in_use: weakref.WeakValueDictionary[tuple[int, Board], RocketKernel] = (
    weakref.WeakValueDictionary()
)


def opened(board: Board) -> tuple[FakeWinsys, Timeline]:
    """Open a chip: the one that others of this process have open, or one just switched on."""
    key = os.getpid(), board
    with _lock:
        kernel = _in_use.get(key)
        if kernel is None or not kernel.users:
            kernel = _in_use[key] = board.kernel()
        winsys = FakeWinsys(kernel)
    assert isinstance(winsys.file, RocketFile)
    return winsys, Timeline(winsys.file.number, winsys.file.clock, kernel.schedule)
