"""Several inferences at a time: one loaded model for each core, fed from fair queues.

The kernels of these NPUs run what one open file submits strictly in order, on one core at a time.
So each core gets a model of its own: own file, own address space, own weights. Inferences wait in
a queue for each stream (a camera, a user); streams take turns, so that none can starve another,
and a full queue makes its caller wait.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity for each file), §10.2 (three cores)

from __future__ import annotations

import asyncio
import collections
import os
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy.typing as npt

from teflon.cache import Cache
from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.pipe import Device
from teflon.prepared import source
from teflon.runtime import Compiled, Model

Given = npt.ArrayLike | Mapping[str, npt.ArrayLike]
Outputs = dict[str, Array]

WAITING = 2
"""Inferences of a stream that wait for each core before `submit` blocks."""


@dataclass(frozen=True)
class _Request:
    arrays: tuple[Given, ...]
    future: Future[Outputs]


class Pool:
    """Models that are alike, and a thread for each; safe for use from several threads."""

    def __init__(self, models: Sequence[Model], waiting: int = 0) -> None:
        """Take models of the same graph, which the pool closes with itself.

        waiting: how many inferences of one stream may wait; twice the models by default. Raises
        OptionError without models.
        """
        if not models or waiting < 0:
            raise OptionError(
                f"pool: has {len(models)} models and {waiting} places, must have one model or more"
            )
        self.models = tuple(models)
        self.inputs, self.outputs = models[0].inputs, models[0].outputs
        self._limit = waiting or WAITING * len(models)
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[Hashable, collections.deque[_Request]] = (
            collections.OrderedDict()
        )
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(m,), name=f"pool {n}", daemon=True)
            for n, m in enumerate(models)
        ]
        for thread in self._threads:
            thread.start()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "auto", cores: int = 3, **options: object
    ) -> Self:
        """Open a device once for each core, compile the model once and upload it to all.

        Raises what `teflon.load` raises, OptionError for less than one core.
        """
        if cores < 1:
            raise OptionError(f"option cores: is {cores}, must be at least 1")
        with ExitStack() as opened:
            first = opened.enter_context(Model(source(path), device, **options))

            def compiled(_devices: Sequence[Device], _cache: Cache) -> Compiled:
                return first.plan, first.programs

            others = [
                opened.enter_context(Model(compiled, device, **options)) for _ in range(cores - 1)
            ]
            pool = cls([first, *others])
            opened.pop_all()
        return pool

    def submit(self, *arrays: Given, stream: Hashable = None) -> Future[Outputs]:
        """Queue an inference; waits while too many of its stream wait.

        The future ends with the outputs by name, or with what the model raises. The arrays must
        stay as they are until then. Raises OptionError when the pool is closed.
        """
        request = _Request(arrays, Future())
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._room(stream) > 0)
            if self._closed:
                raise OptionError("pool: is closed, must be open")
            self._queues.setdefault(stream, collections.deque()).append(request)
            self._changed.notify_all()
        return request.future

    def _room(self, stream: Hashable) -> int:
        return self._limit - len(self._queues.get(stream, ()))

    def __call__(self, *arrays: Given) -> Outputs:
        """Run an inference to its end."""
        return self.submit(*arrays).result()

    async def run_async(self, *arrays: Given, stream: Hashable = None) -> Outputs:
        """Run an inference without blocking the event loop, not even where its stream is full.

        Cancelled while it waits, it is never started.
        """
        loop = asyncio.get_running_loop()
        future = await loop.run_in_executor(None, lambda: self.submit(*arrays, stream=stream))
        return await asyncio.wrap_future(future)

    def map(self, items: Iterable[Given], stream: Hashable = None) -> Iterator[Outputs]:
        """Yield the outputs of each item, in order; items are taken as there is room for them."""
        flying: collections.deque[Future[Outputs]] = collections.deque()
        try:
            for item in items:
                flying.append(self.submit(item, stream=stream))
                if len(flying) >= self._limit:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    def _next(self) -> _Request | None:
        """Return the next request of the stream whose turn it is; None when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._queues))
            if not self._queues:
                return None
            stream, queue = self._queues.popitem(last=False)
            request = queue.popleft()
            if queue:
                self._queues[stream] = queue  # at the end: the others come first
            self._changed.notify_all()
            return request

    def _work(self, model: Model) -> None:
        while (request := self._next()) is not None:
            if not request.future.set_running_or_notify_cancel():
                continue
            try:
                request.future.set_result(model(*request.arrays))
            except BaseException as error:  # belongs to who asked, whatever it is
                request.future.set_exception(error)

    def close(self) -> None:
        """Finish what is queued, then free the devices; a second call does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for model in self.models:
            model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
