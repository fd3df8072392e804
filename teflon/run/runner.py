"""The interface of a loaded model: call it, queue inferences, await them, map it over items."""

from __future__ import annotations

import collections
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy.typing as npt

from teflon import forks, interrupts
from teflon.compile.artefact import Artefact
from teflon.errors import OptionError
from teflon.inspect.report import Report
from teflon.ir.types import Array
from teflon.pipe import Timeline
from teflon.run.inputs import Given, tensor_infos
from teflon.run.state import Memory

if TYPE_CHECKING:  # imported on first use: a program that only calls models needs no threads
    from concurrent.futures import Future

    from teflon.run.queue import FairQueue

Outputs = dict[str, Array]
"""Output name -> array."""


def call_runner(runner: Runner, stream: Hashable, *arrays: Given) -> Outputs:
    """Run an inference on the runner whose queue it comes from: a server of that queue."""
    return runner.infer(arrays, stream, runner.memory)


def call_copy(copy: Runner, runner: Runner, stream: Hashable, *arrays: Given) -> Outputs:
    """Run an inference on a copy of the runner: `partial(call_copy, copy)` is a server.

    States are those of the runner.
    """
    return copy.infer(arrays, stream, runner.memory)


class Runner(ABC):
    """A model that is ready to run, on one core or several. Several threads may use it.

    Call it with arrays in the order of `inputs`, by name, or with one mapping; it returns the
    outputs by name. `submit`, `run_async` and `map` run several inferences at the same time and
    start threads on first use. `close` frees the device.
    """

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.plan, self.programs, self.graph = artefact.plan, artefact.programs, artefact.plan.graph
        self.inputs = tensor_infos(self.graph.given, self.graph.given_names)
        self.outputs = tensor_infos(self.graph.returned, self.graph.returned_names)
        self.memory = Memory(self.graph.states)
        self._starting = forks.lock()
        self._queue: FairQueue[Outputs] | None = None
        self._ended = False

    @abstractmethod
    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        """Run an inference and return the outputs by name, as new arrays.

        Raises OptionError if inputs are missing, unknown, or of another type or shape.
        """

    @abstractmethod
    def run(self, *arrays: Given) -> list[Array]:
        """Run an inference and return the outputs in the model's order."""

    @abstractmethod
    def infer(self, arrays: Sequence[Given], stream: Hashable, memory: Memory) -> Outputs:
        """Run an inference of a stream and return the outputs by name."""

    @abstractmethod
    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        """Return for each core the functions that run its inferences, at the same time.

        They are called with this runner and the inputs. They must not refer to this runner
        themselves: the queue's threads hold them and would keep it alive for ever. Called when the
        first inference is queued. Raises DeviceError.
        """

    @abstractmethod
    def _free(self) -> None:
        """Free the device. Called after the queue's end, perhaps several times."""

    def submit(self, *arrays: Given, stream: Hashable = None) -> Future[Outputs]:
        """Queue an inference; blocks while the stream's queue is full.

        Streams take turns. If the model has states, each stream has its own, and its inferences
        follow one another. The future ends with the outputs by name, or with the error of the
        inference; do not change the arrays before that. An inference that is cancelled while it
        waits never starts. Raises OptionError if the model is closed.
        """
        return self._open_queue().put((self, stream, *arrays), stream)

    async def run_async(self, *arrays: Given, stream: Hashable = None) -> Outputs:
        """Run an inference without blocking the event loop.

        An inference that is cancelled while it waits never starts. Any number of coroutines may
        wait.
        """
        import asyncio

        future = self._open_queue().put((self, stream, *arrays), stream, wait=False)
        return await asyncio.wrap_future(future)

    def map(self, items: Iterable[Given], stream: Hashable = None) -> Iterator[Outputs]:
        """Yield the outputs of each item, in order.

        An item is an array, or a mapping of all inputs. Items are taken from the iterable while the
        queue has room. If an inference raises, its error is raised in its place and the inferences
        after it are cancelled.
        """
        queue = self._open_queue()
        most = queue.threads + queue.cores
        pending: collections.deque[Future[Outputs]] = collections.deque()
        try:
            for item in items:
                pending.append(queue.put((self, stream, item), stream))
                if len(pending) >= most:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def reset_state(self, *streams: Hashable) -> None:
        """Let the model's states begin anew, for the streams that are named or for all.

        Inferences that run already may still see the old content. A model without states has
        nothing to reset. What a stream keeps is freed then, which counts if a runtime holds it.
        """
        self.memory.reset(*streams)

    @property
    def timeline(self) -> Timeline | None:
        """Return the modelled time of a simulated chip: see docs/simulator.md; None on silicon."""
        return None

    def report(self) -> Report:
        """Return where each operation runs and why, as text (`str`) or `as_dict()`."""
        return Report.of(self.plan, self.programs)

    def close(self) -> None:
        """Finish all queued inferences, then free the device; a second call does nothing.

        If another thread calls the model meanwhile, that call ends with its outputs, OptionError or
        DeviceError.
        """
        with self._starting:
            self._ended = True
        if self._queue is not None:
            self._queue.close()
        self._free()
        self.memory.reset()

    def _open_queue(self) -> FairQueue[Outputs]:
        with self._starting:
            if self._ended:
                raise OptionError(f"{self.graph.name}: the model is closed, must be open")
            if self._queue is None or not self._queue.is_ours:
                from teflon.run.queue import FairQueue

                servers = self._servers()
                with interrupts.whole():  # it starts threads
                    self._queue = FairQueue(
                        self.graph.name, servers, one_at_a_time=len(self.memory) > 0
                    )
                    # for a runner that is garbage and was not closed
                    weakref.finalize(self, self._queue.end).atexit = False
            return self._queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._queue is not None and isinstance(error, KeyboardInterrupt):
            self._queue.cancel()  # who interrupts does not wait for what has not begun
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.graph.name!r} on {self.plan.devices[0]}>"
