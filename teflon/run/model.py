"""A model on one device: an artefact whose programs are loaded, and how an inference runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial

import numpy.typing as npt

from teflon import forks, trace
from teflon.compile.artefact import Artefact
from teflon.compile.chain import open_fallback
from teflon.compile.partition import Partition, Plan
from teflon.errors import DriverUnavailable, OptionError
from teflon.inspect import verbose
from teflon.ir.graph import Value
from teflon.ir.types import Array
from teflon.pipe import Context, Executable, Timeline
from teflon.run.inputs import Given, arrange_inputs
from teflon.run.runner import Outputs, Runner, call_copy, call_runner
from teflon.run.state import Memory

OVERLAPPING = 2
"""Inferences that run on one core at the same time, if the caller queues several."""


class Model(Runner):
    """An artefact on one device, with the CPU for what that device cannot run."""

    def __init__(self, artefact: Artefact, context: Context | None, *, owned: bool = True) -> None:
        """Upload the programs into an opened device; `context` is None for a chip's description.

        owned: the model owns the device: `close` closes it, and so does an error here. Otherwise
        the caller closes it, and `close` frees the model's buffers only. Raises DeviceError.
        """
        super().__init__(artefact)
        self._copies: list[Model] = []
        self._closed = False
        self._lock = forks.lock()
        self._contexts: list[Context | None] = [context]
        self._owned: list[Context | None] = [context] if owned else []
        self._executables: list[Executable | None] = []
        self._last = _last_uses(self.plan)
        read = {v for part in self.plan.partitions for v in part.graph.inputs}
        self._constants = {v: v.data for v in (*read, *self.graph.outputs) if v.data is not None}
        self._fresh = _fresh_outputs(self.plan)
        try:
            self._upload()
        except BaseException:
            self.close()
            raise

    def _upload(self) -> None:
        for number, device in enumerate(self.artefact.devices[1:], 1):
            used = any(part.device == number for part in self.plan.partitions)
            self._contexts.append(open_fallback(device, self.plan.host) if used else None)
            self._owned.append(self._contexts[-1])
        for part, program in zip(self.plan.partitions, self.programs, strict=True):
            context = self._contexts[part.device]
            with trace.span("upload", partition=part.index):
                executable = context.load(program) if context else None
            self._executables.append(executable)

    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        return self._named(self._run(self.given(arrays, named), None, self.memory))

    def infer(self, arrays: Sequence[Given], stream: Hashable, memory: Memory) -> Outputs:
        return self._named(self._run(self.given(arrays, {}), stream, memory))

    def _named(self, results: Sequence[Array]) -> Outputs:
        return dict(zip((o.name for o in self.outputs), results, strict=True))

    @property
    def timeline(self) -> Timeline | None:
        context = self._contexts[0]
        return None if context is None else context.timeline

    def run(self, *arrays: Given) -> list[Array]:
        return self._run(self.given(arrays, {}), None, self.memory)

    def given(self, arrays: Sequence[Given], named: Mapping[str, npt.ArrayLike]) -> list[Array]:
        """Return C-contiguous inputs in the model's order. Raises OptionError."""
        return arrange_inputs(self.graph.name, self.inputs, arrays, named)

    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        return ((call_runner, *(partial(call_copy, copy) for copy in self.overlapping()[1:])),)

    def overlapping(self) -> Sequence[Model]:
        """Return this model and copies of it on the same device. Raises DeviceError.

        While the device works for one of them, the host converts inputs or outputs of another.
        """
        while len(self._copies) < OVERLAPPING - 1:
            self._copies.append(Model(self.artefact, self._contexts[0], owned=False))
        return (self, *self._copies)

    def _free(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with contextlib.ExitStack() as everything:  # closes all, even if one raises
            everything.callback(trace.write)
            for resource in (*self._owned, *self._executables, *self._copies):
                if resource is not None:
                    everything.callback(resource.close)

    def _run(self, inputs: Sequence[Array], stream: Hashable, memory: Memory) -> list[Array]:
        if self._closed:
            raise OptionError(f"{self.graph.name}: the model is closed, must be open")
        with trace.span("inference", model=self.graph.name):
            if not self.graph.states:
                return self._inference(inputs)
            with memory.turn(stream) as content:
                results = self._inference([*inputs, *content])
                mine = len(self.outputs)
                content[:] = results[mine:]
                return results[:mine]

    def _inference(self, inputs: Sequence[Array]) -> list[Array]:
        values: dict[Value, Array] = dict(zip(self.graph.inputs, inputs, strict=True))
        values.update(self._constants)
        for part, executable, last in zip(
            self.plan.partitions, self._executables, self._last, strict=True
        ):
            operands = [values[v] for v in part.graph.inputs]
            results = self._invoke(part, executable, operands)
            values.update(zip(part.graph.outputs, results, strict=True))
            for value in last:
                del values[value]
        return [
            values[v] if fresh else values[v].copy()
            for v, fresh in zip(self.graph.outputs, self._fresh, strict=True)
        ]

    def _invoke(
        self, part: Partition, executable: Executable | None, operands: Sequence[Array]
    ) -> list[Array]:
        context = self._contexts[part.device]
        if context is None or executable is None:
            name = self.plan.devices[part.device]
            raise DriverUnavailable(
                f"{name}: is the description of a chip and can only compile;"
                f" to run the model, load it with device='sim:{name.split()[-1]}' or a real device"
            )
        start = time.perf_counter()
        with trace.span("partition", number=part.index, device=self.plan.devices[part.device]):
            results = context.invoke(executable, operands)
        if part.device == 0:
            verbose.show_invoke_time(time.perf_counter() - start)
        return results


def _last_uses(plan: Plan) -> list[tuple[Value, ...]]:
    """Return for each partition the values that no later partition reads and no output needs."""
    found, later = [], set(plan.graph.outputs)
    for part in reversed(plan.partitions):
        mine = dict.fromkeys(part.graph.inputs)
        found.append(tuple(v for v in mine if v not in later))
        later.update(mine)
    return found[::-1]


def _fresh_outputs(plan: Plan) -> list[bool]:
    """Return for each output whether the caller gets its array without a copy.

    An inference makes a new array for each result of a partition. An output that is an input or a
    constant needs a copy, and so does the second place of an output that occurs twice.
    """
    made = {v for part in plan.partitions for v in part.graph.outputs}
    outs = plan.graph.outputs
    return [v in made and v not in outs[:n] for n, v in enumerate(outs)]
