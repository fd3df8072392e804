"""A fair queue: threads that serve the requests of several streams in turn.

Each stream (a camera, a user) has its own queue. Streams take turns, so that no stream can block
another, and `put` waits while the stream's queue is full. A core has several servers: the host
works for one request while the core works for another.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from teflon import forks, interrupts
from teflon.errors import DeviceError, OptionError

T = TypeVar("T")

WAITING = 2
"""Requests of a stream that may wait for each core before `put` blocks."""

_Request = tuple[Sequence[Any], "Pending[T]"]


class Pending(Future[T]):
    """The future of a queued call. In a forked child a call that had not ended has failed.

    It waits on a gate of its own: Ctrl-C in `Future.result` can leave the future's lock taken, on
    which the thread that serves the call would then wait for ever.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._owner = name, os.getpid()
        self._ended = interrupts.Gate()
        self._outcome: Callable[[], T] = _cancelled
        self._failure: BaseException | None = None
        forks.watch(self)

    def set_result(self, result: T) -> None:
        self._outcome = lambda: result
        super().set_result(result)
        self._ended.open()

    def set_exception(self, exception: BaseException | None) -> None:
        self._failure = exception
        super().set_exception(exception)
        self._ended.open()

    def cancel(self) -> bool:
        with interrupts.whole():
            if super().cancel():
                self._ended.open()
                return True
            return False

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        with interrupts.whole():
            super().add_done_callback(fn)

    def result(self, timeout: float | None = None) -> T:
        failure = self.exception(timeout)
        try:
            if failure is not None:
                raise failure
            return self._outcome()
        finally:
            failure = None  # else it refers to this frame, which refers to it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self._ended.wait(timeout):
            raise TimeoutError
        if self._failure is None:
            self._outcome()  # raises CancelledError, or nothing
        return self._failure

    def after_fork(self) -> None:
        """Begin anew: the locks are held, and the callbacks wanted, by threads of the parent."""
        ended, self._ended = self._ended.is_open, interrupts.Gate()
        super().__init__()
        if not ended:
            self.set_exception(_of_parent(self._name, self._owner))
        elif self._failure is not None:
            self.set_exception(self._failure)
        elif self._outcome is _cancelled:
            self.cancel()
        else:
            self.set_result(self._outcome())


def _cancelled() -> Any:
    raise CancelledError


def _of_parent(name: str, owner: int) -> DeviceError:
    return DeviceError(
        f"{name}: an inference was queued by process {owner}, must be waited for there"
        f" (queue it again after the fork, here in process {os.getpid()})"
    )


class FairQueue(Generic[T]):
    """A queue of calls, served by several functions that do the same, each in its own thread.

    Several threads may use it. In a forked child it is closed: threads are not forked.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[Sequence[Callable[..., T]]],
        waiting: int = 0,
        one_at_a_time: bool = False,
    ) -> None:
        """Start the threads.

        servers: for each core the functions that may run at the same time, one thread for each.
        waiting: the number of requests of one stream that may wait; 0 stands for WAITING times the
        number of cores. one_at_a_time: a stream's next request starts when the one before it has
        ended.
        """
        self.name = name
        self._owner = os.getpid()
        self.is_ours = True
        """Whether this process started the threads; if not, the queue is closed."""
        self.cores = len(servers)
        self.threads = sum(len(core) for core in servers)
        self._idle = [list(reversed(core)) for core in servers]
        self._limit = waiting or WAITING * self.cores
        self._lock = forks.rlock()
        self._changed = threading.Condition(self._lock)
        self._queues: collections.OrderedDict[Hashable, collections.deque[_Request[T]]] = (
            collections.OrderedDict()
        )
        self._one_at_a_time = one_at_a_time
        self._served: set[Hashable] = set()
        """Streams whose next request must wait for the one that runs."""
        self._closed = False
        self._closing: set[threading.Thread] = set()
        self._workers = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(self.threads)
        ]
        forks.watch(self)
        for worker in self._workers:
            worker.start()

    def after_fork(self) -> None:
        """End the queue in a forked child."""
        self.is_ours = False
        self._closed = True
        self._changed = threading.Condition(self._lock)
        self._queues.clear()
        self._workers = []

    def put(
        self, arguments: Sequence[Any], stream: Hashable = None, wait: bool = True
    ) -> Future[T]:
        """Queue a call and return the future of its result.

        With `wait`, block while the stream's queue is full. Raises OptionError if the queue is
        closed.
        """
        future: Pending[T] = Pending(self.name)
        with self._lock:
            if wait:
                self._changed.wait_for(lambda: self._closed or self._has_room(stream))
            if not self.is_ours:
                raise _of_parent(self.name, self._owner)
            if self._closed:
                raise OptionError(f"{self.name}: the model is closed, must be open")
            self._queues.setdefault(stream, collections.deque()).append((arguments, future))
            self._changed.notify_all()
        return future

    def _has_room(self, stream: Hashable) -> bool:
        return len(self._queues.get(stream, ())) < self._limit

    def _ready(self) -> list[Hashable]:
        return [stream for stream in self._queues if stream not in self._served]

    def _next(self) -> tuple[int, Callable[..., T], Hashable, _Request[T]] | None:
        """Return the next request and its stream, with the least busy core and a server of it.

        Returns None if the queue is closed and empty.
        """
        with self._lock:
            self._changed.wait_for(lambda: (self._closed and not self._queues) or self._ready())
            if not self._queues:
                return None
            stream = self._ready()[0]
            queue = self._queues.pop(stream)
            request = queue.popleft()
            if queue:
                self._queues[stream] = queue  # at the end: the other streams come first
            if self._one_at_a_time:
                self._served.add(stream)
            core = max(range(self.cores), key=lambda core: len(self._idle[core]))
            self._changed.notify_all()
            return core, self._idle[core].pop(), stream, request

    def _work(self) -> None:
        while self._serve():
            pass

    def _serve(self) -> bool:
        """Serve a request; return False if the queue is closed and empty."""
        found = self._next()
        if found is None:
            return False
        core, server, stream, (arguments, future) = found
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(server(*arguments))
        except BaseException as error:  # the caller gets any error with the future
            future.set_exception(error)
        finally:
            with self._lock:
                self._idle[core].append(server)
                if self._one_at_a_time:
                    self._served.discard(stream)
                    self._changed.notify_all()
        return True

    def cancel(self) -> None:
        """Cancel all requests that wait."""
        with self._lock:
            waiting = [future for queue in self._queues.values() for _, future in queue]
        for future in waiting:  # without the lock: callbacks may queue requests
            future.cancel()

    def end(self) -> None:
        """Tell the threads to end when all queued requests are done; does not wait for that."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Finish all queued requests, end the threads, and return when that is done."""
        self.end()
        here = threading.current_thread()
        with self._lock:  # callbacks of futures may call this: they must not wait for each other
            if here in self._workers:
                self._closing.add(here)
                others = [worker for worker in self._workers if worker not in self._closing]
            else:
                others = self._workers
        for worker in others:
            worker.join()
