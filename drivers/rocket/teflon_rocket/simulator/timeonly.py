"""A machine that only keeps time: it decodes and checks every task, and computes nothing."""

from .cube import ATOM
from .machine import Core, Machine
from .task import Task

_PIXELS = 4
"""At the end of each surface that a task would write; they become zero."""


class TimeOnly(Machine):
    """Refuses what `Machine` refuses of command lists; what it leaves in outputs means nothing.

    The ends of outputs are touched, so that a driver which looks sees that something was written.
    """

    def execute(self, task: Task, state: Core) -> None:
        self.keep_weights(task, state)
        pixels = task.dpu.width * task.dpu.height
        for surface in range(-(-task.dpu.channels // ATOM)):
            start = task.dpu.address + surface * task.dpu.surface_bytes
            whole = self.memory.view(start, pixels * ATOM, "DPU.DST_BASE_ADDR")
            whole[-_PIXELS * ATOM :] = 0
