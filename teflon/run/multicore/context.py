"""Running programs for several cores: one context for each core; the host joins their results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np

from teflon import forks, interrupts, trace
from teflon.errors import DeviceError, DeviceTimeout, OptionError, ProgramError, TeflonError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Program, Timeline
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.parts import Piece
from teflon.run.multicore.program import MulticoreProgram, Stage
from teflon.run.queue import FairQueue

Invoke = Callable[[Executable, Sequence[Array]], list[Array]]


class MulticoreExecutable(Executable):
    """The programs of all stages, each loaded into the context of its core."""

    def __init__(self, program: MulticoreProgram, contexts: Sequence[Context]) -> None:
        """Raises what `Context.load` raises."""
        self.program: MulticoreProgram = program
        self.stages: list[list[Executable]] = []
        with ExitStack() as loaded:
            for stage in program.stages:
                self.stages.append([])
                for context, share in zip(contexts, stage.shares, strict=False):
                    self.stages[-1].append(context.load(share.program))
                    loaded.callback(self.stages[-1][-1].close)
            self._loaded = loaded.pop_all()

    def close(self) -> None:
        self._loaded.close()


class MulticoreFence(Fence):
    """An inference that a thread of the context runs."""

    def __init__(self, future: Future[list[Array]]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def wait(self, timeout: float | None = None) -> list[Array]:
        try:
            return self._future.result(timeout)
        except TimeoutError:
            raise DeviceTimeout(
                f"stages: an inference is not done after {timeout:g} s, must be done in that time"
                " (wait longer, or again)"
            ) from None


class MulticoreContext(Context):
    """Several open files of one chip, one for each core, as one context; `close` closes them."""

    def __init__(self, device: MulticoreDevice, contexts: Sequence[Context]) -> None:
        """Raises OptionError without contexts."""
        if not contexts:
            raise OptionError("stages: there are no contexts, there must be one for each core")
        self.device: Device = device
        self.contexts = tuple(contexts)
        self._starting = forks.lock()
        self._queue: FairQueue[list[Array]] | None = None
        self._closed = False

    def load(self, program: Program) -> MulticoreExecutable:
        if not isinstance(program, MulticoreProgram) or program.cores > len(self.contexts):
            cores = program.cores if isinstance(program, MulticoreProgram) else 0
            raise ProgramError(
                f"program: is for {cores} cores, must be in stages for at most {len(self.contexts)}"
                " (compile it for them)"
            )
        return MulticoreExecutable(program, self.contexts)

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> MulticoreFence:
        """Start an inference in a thread; inferences run in order."""
        copies = [np.array(array) for array in inputs]
        with self._starting:
            if self._closed:
                driver = self.device.driver
                raise DeviceError(f"{driver}: the device was closed, must be opened again")
            if self._queue is None or not self._queue.is_ours:
                with interrupts.whole():  # it starts a thread
                    self._queue = FairQueue("stages", [[_call]])
            queued = self._queue.put((self.invoke, executable, copies), wait=False)
            return MulticoreFence(queued)

    def invoke(self, executable: Executable, inputs: Sequence[Array]) -> list[Array]:
        """Run an inference in the calling thread."""
        if not isinstance(executable, MulticoreExecutable):
            raise ProgramError("program: was loaded by another context, must be loaded by this one")
        program = executable.program
        if len(inputs) != len(program.reads):
            raise OptionError(
                f"program: {len(inputs)} inputs were given, must be {len(program.reads)}"
            )
        values = dict(zip(program.reads, inputs, strict=True))
        for number, stage in enumerate(program.stages):
            with trace.span("stage", number=number, cores=len(stage.shares)):
                parts = self._run(stage, executable.stages[number], values)
                values.update(_join(program, stage, parts))
        return [values[number] for number in program.makes]

    def _run(
        self, stage: Stage, loaded: Sequence[Executable], values: dict[int, Array]
    ) -> list[list[Array]]:
        """Start all parts, then wait for all of them, even if one fails."""
        self._synchronise_clocks()
        fences: list[Fence] = []
        error: TeflonError | None = None
        results: list[list[Array]] = []
        try:
            for context, part, share in zip(self.contexts, loaded, stage.shares, strict=False):
                inputs = [_cut_piece(values[n], piece) for n, piece in share.feeds]
                fences.append(context.submit(part, inputs))
        finally:
            for fence in fences:
                try:
                    results.append(fence.wait())
                except TeflonError as found:
                    error = error or found
        if error is not None:
            raise error
        return results

    @property
    def timeline(self) -> Timeline | None:
        return self.contexts[0].timeline

    def _synchronise_clocks(self) -> None:
        """Set all clocks to the latest one: a stage starts when the stage before it has ended."""
        clocks = [c.timeline.clock for c in self.contexts if c.timeline is not None]
        for clock in clocks:
            clock.until(max(other.now for other in clocks))

    def close(self) -> None:
        with self._starting:
            self._closed = True
        if self._queue is not None:
            self._queue.close()
        with contextlib.ExitStack() as everything:  # closes all, even if one raises
            for context in self.contexts:
                everything.callback(context.close)


def _call(invoke: Invoke, executable: Executable, inputs: Sequence[Array]) -> list[Array]:
    return invoke(executable, inputs)


def _cut_piece(array: Array, piece: Piece) -> Array:
    if piece.axis == 0:
        return array
    index = (slice(None),) * piece.axis + (slice(piece.low, piece.high),)
    return np.ascontiguousarray(array[index])  # copies nothing for rows of one image


def _join(
    program: MulticoreProgram, stage: Stage, parts: Sequence[Sequence[Array]]
) -> dict[int, Array]:
    """Return the results of a stage by number: join the parts that the cores computed."""
    if len(parts) == 1:
        return {n: array for (n, _), array in zip(stage.shares[0].yields, parts[0], strict=True)}
    found: dict[int, Array] = {}
    for share, arrays in zip(stage.shares, parts, strict=True):
        for (number, piece), array in zip(share.yields, arrays, strict=True):
            if number not in found:
                kind = program.tensors[number]
                found[number] = np.empty(kind.shape, kind.dtype.numpy)
            front = (slice(None),) * piece.axis
            place = slice(piece.low, piece.high)
            own = slice(piece.skip, piece.skip + piece.high - piece.low)
            found[number][(*front, place)] = array[(*front, own)]
    return found
