"""A fair queue: requests of several streams, and threads that serve them.

Requests wait in a queue for each stream (a camera, a user); streams take turns, so that none can
starve another, and a full queue makes its caller wait. A core has several servers, so that the host
works for one request while the core works for another.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from teflon.errors import OptionError

T = TypeVar("T")

WAITING = 2
"""Requests of a stream that may wait for each core before `put` blocks."""

_Request = tuple[Sequence[Any], "Future[T]"]


class FairQueue(Generic[T]):
    """Functions that do the same, a thread for each; safe for use from several threads."""

    def __init__(
        self, name: str, servers: Sequence[Sequence[Callable[..., T]]], waiting: int = 0
    ) -> None:
        """Start the threads.

        servers: for each core the functions that may run at the same time, each in one thread.
        waiting: how many requests of one stream may wait; 0 for WAITING times the cores.
        """
        self.name = name
        self.owner = os.getpid()
        self.cores = len(servers)
        self.threads = sum(len(core) for core in servers)
        self._idle = [list(reversed(core)) for core in servers]
        self._limit = waiting or WAITING * self.cores
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[Hashable, collections.deque[_Request[T]]] = (
            collections.OrderedDict()
        )
        self._closed = False
        self._closing: set[threading.Thread] = set()
        self._workers = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(self.threads)
        ]
        for worker in self._workers:
            worker.start()

    def put(
        self, arguments: Sequence[Any], stream: Hashable = None, wait: bool = True
    ) -> Future[T]:
        """Queue a call and return its result's future.

        Waits while too many of its stream wait; not so with `wait` False, for callers that have
        one request at a time. Raises OptionError when the queue is closed.
        """
        future: Future[T] = Future()
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._has_room(stream))
            if self._closed:
                raise OptionError(f"{self.name}: the model is closed, must be open")
            self._queues.setdefault(stream, collections.deque()).append((arguments, future))
            self._changed.notify_all()
        return future

    def _has_room(self, stream: Hashable) -> bool:
        return len(self._queues.get(stream, ())) < self._limit

    def _next(self) -> tuple[int, Callable[..., T], _Request[T]] | None:
        """Return the least busy core, a server of it, and the request of the stream whose turn it
        is; None when all is done.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._queues))
            if not self._queues:
                return None
            stream, queue = self._queues.popitem(last=False)
            request = queue.popleft()
            if queue:
                self._queues[stream] = queue  # at the end: the others come first
            core = max(range(self.cores), key=lambda core: len(self._idle[core]))
            self._changed.notify_all()
            return core, self._idle[core].pop(), request

    def _work(self) -> None:
        while self._serve():
            pass

    def _serve(self) -> bool:
        """Serve a request; return False when there will be none any more."""
        found = self._next()
        if found is None:
            return False
        core, server, (arguments, future) = found
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(server(*arguments))
        except BaseException as error:  # belongs to who asked, whatever it is
            future.set_exception(error)
        finally:
            with self._changed:
                self._idle[core].append(server)
        return True

    def end(self) -> None:
        """End the threads as soon as what is queued is done; does not wait for that."""
        if os.getpid() != self.owner:
            return  # a forked child has none of the threads; one may have held the lock
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Finish what is queued and end the threads; every call returns when that is done."""
        if os.getpid() != self.owner:
            return
        self.end()
        here = threading.current_thread()
        with self._changed:  # callbacks of futures may close: they must not wait for each other
            if here in self._workers:
                self._closing.add(here)
                others = [worker for worker in self._workers if worker not in self._closing]
            else:
                others = self._workers
        for worker in others:
            worker.join()
