"""What `teflon.load` returns: a model that is called, queued, awaited or mapped over items."""

from __future__ import annotations

import collections
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy.typing as npt

from teflon.compile.artefact import Artefact
from teflon.errors import OptionError
from teflon.inspect.report import Report
from teflon.ir.types import Array
from teflon.pipe import Timeline
from teflon.run.inputs import Given, described

if TYPE_CHECKING:  # imported when first used: what only calls a model needs no threads
    from concurrent.futures import Future

    from teflon.run.queue import FairQueue

Outputs = dict[str, Array]


def itself(runner: Runner, *arrays: Given) -> Outputs:
    """A server of a queue: the runner whose queue it is."""
    return runner(*arrays)


def instead(other: Runner, _runner: Runner, *arrays: Given) -> Outputs:
    """A server of a queue, with its first argument given: another runner of the same model."""
    return other(*arrays)


class Runner(ABC):
    """A model that is ready to run, on one core or several; safe for use from several threads.

    Call it with arrays in the order of `inputs`, by name, or with one mapping; it returns the
    outputs by name. `submit`, `run_async` and `map` keep several inferences under way, and start
    threads when first used. `close` frees the device.
    """

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.plan, self.programs, self.graph = artefact.plan, artefact.programs, artefact.plan.graph
        self.inputs = described(self.graph.inputs, self.graph.input_names)
        self.outputs = described(self.graph.outputs, self.graph.output_names)
        self._starting = threading.Lock()
        self._queue: FairQueue[Outputs] | None = None
        self._ended = False

    @abstractmethod
    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        """Run an inference and return the outputs by name, as new arrays.

        Raises OptionError where inputs are missing, unknown, or of another type or shape.
        """

    @abstractmethod
    def run(self, *arrays: Given) -> list[Array]:
        """Run an inference; inputs and outputs in the model's order."""

    @abstractmethod
    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        """Return for each core what runs an inference to its end: several that overlap.

        Each is called with the runner and its inputs, and must not hold the runner: threads that
        wait for work would keep it for ever. Asked when the first inference is queued. Raises
        DeviceError.
        """

    @abstractmethod
    def _free(self) -> None:
        """Free the device; called once nothing is queued any more, perhaps several times."""

    def submit(self, *arrays: Given, stream: Hashable = None) -> Future[Outputs]:
        """Queue an inference; waits while too many of its stream wait.

        Streams take turns. The future ends with the outputs by name, or with what calling raises;
        the arrays must stay as they are until then. One that is cancelled while it waits is never
        started. Raises OptionError when the model is closed.
        """
        return self._queued().put((self, *arrays), stream)

    async def run_async(self, *arrays: Given, stream: Hashable = None) -> Outputs:
        """Run an inference without blocking the event loop.

        Cancelled while it waits, it is never started. Who awaits it waits for its own turn only:
        there is no limit to how many coroutines may.
        """
        import asyncio

        return await asyncio.wrap_future(self._queued().put((self, *arrays), stream, wait=False))

    def map(self, items: Iterable[Given], stream: Hashable = None) -> Iterator[Outputs]:
        """Yield the outputs of each item, in order.

        Items (an array, or a mapping of all inputs) are taken as there is room for them. Raises
        what an item's inference raises in its place; those behind it are given up.
        """
        queue = self._queued()
        most = queue.threads + queue.cores
        flying: collections.deque[Future[Outputs]] = collections.deque()
        try:
            for item in items:
                flying.append(queue.put((self, item), stream))
                if len(flying) >= most:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    @property
    def timeline(self) -> Timeline | None:
        """Return the modelled time of a simulated chip that keeps it: see docs/simulator.md."""
        return None

    def report(self) -> Report:
        """Return what runs where and why, as text (`str`) or `as_dict()`."""
        return Report.of(self.plan, self.programs)

    def close(self) -> None:
        """Finish what is queued, then free the device; a second call does nothing.

        A call that another thread makes meanwhile ends with its outputs, OptionError or
        DeviceError.
        """
        with self._starting:
            self._ended = True
        if self._queue is not None:
            self._queue.close()
        self._free()

    def _queued(self) -> FairQueue[Outputs]:
        with self._starting:
            if self._ended:
                raise OptionError(f"{self.graph.name}: the model is closed, must be open")
            if self._queue is None or self._queue.owner != os.getpid():  # no thread is forked
                from teflon.run.queue import FairQueue

                self._queue = FairQueue(self.graph.name, self._servers())
                weakref.finalize(self, self._queue.end).atexit = False  # dropped, not closed
            return self._queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.graph.name!r} on {self.plan.devices[0]}>"
