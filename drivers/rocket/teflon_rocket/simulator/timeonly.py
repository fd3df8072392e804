"""A machine that only keeps time: it decodes and checks every task, and computes nothing."""

from __future__ import annotations

from typing import Any

from .engine import Core, Engine, Task
from .machine import Machine


class TimeOnly(Machine):
    """Refuses command lists that `Machine` refuses; what it leaves in outputs means nothing.

    A few bytes of each are written, so that a driver which checks finds its outputs written.
    """

    def execute(self, engine: Engine[Any], task: Task, core: Core) -> None:
        engine.touch(task, core)
