"""A machine that only keeps time: it decodes and checks every task, and computes nothing."""

from .cube import ATOM
from .machine import Core, Machine
from .task import Task

_PIXELS = 4
"""At the end of the first surface that a task would write; they become zero."""


class TimeOnly(Machine):
    """Refuses command lists that `Machine` refuses; what it leaves in outputs means nothing.

    A few bytes of them are touched, so that a driver which looks sees that something was written.
    """

    def execute(self, task: Task, state: Core) -> None:
        self.keep_weights(task, state)
        surface = task.dpu.width * task.dpu.height * ATOM
        others = -(-task.dpu.channels // ATOM) - 1
        whole = others * task.dpu.surface_bytes + surface
        written = self.memory.view(task.dpu.address, whole, "DPU.DST_BASE_ADDR")
        written[max(surface - _PIXELS * ATOM, 0) : surface] = 0
