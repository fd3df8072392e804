"""An open file of the etnaviv kernel: its addresses, its queues, what its machine remembers."""

from __future__ import annotations

import time

from teflon_common.fake_drm import BufferObject, FakeFile
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.simulator.address_map import AddressMap
from teflon_etnaviv.simulator.buffer_use import UserMemory
from teflon_etnaviv.simulator.jobs import Job, Timeline
from teflon_etnaviv.simulator.machine import Shared
from teflon_etnaviv.simulator.submit import Listed, Work

_LISTS_KEPT = 16


class EtnavivFile(FakeFile):
    """An open file. `last` has the newest job of each core, `waiting` all that have not ended."""

    def __init__(self, base: FakeFile, cores: int) -> None:
        super().__init__(base.space)
        self.addresses = AddressMap()
        self.submits = 0
        self.shared = Shared()
        self.last: list[Job | None] = [None] * cores
        self.waiting: dict[Job, None] = {}
        self.users: dict[BufferObject, UserMemory] = {}
        self.faults: list[str] = []
        self.patience: float | None = None
        """Until when jobs may begin, once the program has closed the file."""
        self._timelines = [Timeline() for _ in range(cores)]
        self._seen: dict[Listed, DeviceMemory] = {}

    def cut(self) -> bool:
        """Whether the file was closed so long ago that no job of it begins any more."""
        return self.patience is not None and time.monotonic() > self.patience

    def job(self, work: Work) -> Job:
        """Return a new job of this file."""
        return self._timelines[work.pipe].job(work)

    def memory(self, bos: Listed) -> DeviceMemory:
        """Return what the machine sees: the buffers of a submit and nothing else."""
        seen = self._seen
        if bos in seen:
            return seen[bos]
        memory = DeviceMemory()
        for bo, address, _ in bos:
            memory.map(address, memoryview(bo.device), f"bo {bo.handle}")
        if len(seen) >= _LISTS_KEPT:
            seen.clear()
        seen[bos] = memory
        return memory

    def forget(self, bo: BufferObject) -> None:
        """Forget a buffer that is freed."""
        self.addresses.drop(bo)
        self.users.pop(bo, None)
        self._seen = {}
