"""A model on a device: compiled partition by partition, called on arrays."""

from __future__ import annotations

import contextlib
import difflib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from teflon import debug, trace
from teflon.compile.cache import Cache, compile_cached, configured, split
from teflon.compile.partition import NOWHERE, Partition, Plan, blamed, doubted, partition
from teflon.devices import AUTO, CPU, open_device
from teflon.errors import DriverUnavailable, EncodingError, OptionError, UnsupportedOperation
from teflon.inspect import verbose
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower import STANDARD
from teflon.ir.passes import run_pipeline
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Program, Timeline
from teflon.run.runner import Given, Outputs, Runner, TensorInfo, instead, itself

Compiled = tuple[Plan, tuple[Program | None, ...]]
"""A plan, and the program of each partition, None where there is none."""

Preparer = Callable[[Sequence[Device], Cache], Compiled]
"""What makes a model for some devices, the CPU last: from a file, or from what is compiled."""


def plan_model(
    graph: Graph, device: Device, observer: Callable[[str, Graph], None] | None = None
) -> Plan:
    """Return where a model's operations would run on a device, with the CPU for the rest.

    Runs the standard passes first, then the device's; compiles nothing, opens nothing. `observer`
    is called with name and graph after every pass that changed something.
    """
    plan = _placed(graph, device, observer)
    verbose.show_support(plan)
    return plan


def _placed(
    graph: Graph, device: Device, observer: Callable[[str, Graph], None] | None = None
) -> Plan:
    with trace.span("passes"):
        prepared = run_pipeline(graph, (*STANDARD, *device.passes()), observer=observer)
    kept = {(op.index, op.where) for op in prepared.ops}
    folded = tuple(op for op in graph.ops if (op.index, op.where) not in kept)
    with trace.span("partitioning"):
        plan = partition(prepared, _with_cpu(device))
    return replace(plan, folded=folded, listing=graph.listing)


def compile_plan(
    plan: Plan, devices: Sequence[Device], cache: Cache | None = None
) -> tuple[Plan, tuple[Program | None, ...]]:
    """Return the programs of all partitions, None where no device can run one.

    Where a device cannot express a partition after all, the operations that are to blame go to the
    next device, with the reason, and the plan that is returned says so. Programs come from the
    compile cache where they are there; None means the configured one.
    """
    store = configured() if cache is None else cache
    refused: list[tuple[int, Mapping[Op, str]]] = []
    while True:
        programs: list[Program | None] = []
        for part in plan.partitions:
            try:
                programs.append(_compiled(plan, part, devices, store))
            except EncodingError as error:
                refused.append((part.device, blamed(devices[part.device], part.graph, error)))
                break
        else:
            _show(plan, devices, programs)
            return plan, tuple(programs)
        again = partition(plan.graph, devices, refused)
        plan = replace(again, folded=plan.folded, listing=plan.listing)


def _compiled(
    plan: Plan, part: Partition, devices: Sequence[Device], cache: Cache
) -> Program | None:
    if part.device == NOWHERE:
        return None
    verbose.show_compiling(plan, part)
    start = time.perf_counter()
    with trace.span("compile", partition=part.index, device=plan.devices[part.device]):
        program = compile_cached(devices[part.device], part.graph, cache)
    if part.device == 0:
        verbose.compiled(time.perf_counter() - start)
    return program


def _show(plan: Plan, devices: Sequence[Device], programs: Sequence[Program | None]) -> None:
    whole = debug.enabled("stream")
    if not whole and not debug.enabled("tasks"):
        return
    for part, program in zip(plan.partitions, programs, strict=True):
        if program is not None:
            device = devices[part.device]
            text = device.describe(program) if whole else device.outline(program)
            debug.log(f"# partition {part.index}\n{text}")


def compile_graph(graph: Graph, devices: Sequence[Device], cache: Cache) -> Compiled:
    """Return plan and programs of a model on the first device and the CPU (the second)."""
    return compile_plan(plan_model(graph, devices[0]), devices, cache)


def opened(device: str, options: Mapping[str, object]) -> tuple[Device, Context | None, Cache]:
    """Return the device that a spec names, its context, and the compile cache.

    The option `cache` is a folder for compiled programs, or `off`; all others are the driver's.
    Raises what `open_device` raises.
    """
    cache, rest = split(options)
    with trace.span("open", device=device):
        chip, context = open_device(device, rest)
    verbose.loaded(chip.driver)
    return chip, context, cache


def compile_part(graph: Graph, devices: Sequence[Device], cache: Cache) -> Compiled:
    """As `compile_graph`, for a part of a model whose support was logged already."""
    return compile_plan(_placed(graph, devices[0]), devices, cache)


OVERLAPPING = 2
"""Inferences of one core that are under way at a time, where several are asked for at a time."""


class Model(Runner):
    """A model, ready to run on one device, with the CPU for what that device cannot do."""

    def __init__(self, model: Graph | Preparer, device: str = AUTO, **options: object) -> None:
        """Open the device, compile and upload.

        Raises what `opened` and compiling raise, and DeviceError where uploading fails.
        """
        super().__init__()
        chip, context, self._cache = opened(device, options)
        self._begin(model, chip, context, owned=True)

    @classmethod
    def on(
        cls,
        model: Graph | Preparer,
        chip: Device,
        context: Context | None,
        cache: Cache,
        owned: bool = False,
    ) -> Self:
        """Return a model on an opened device.

        owned: the device is closed with the model, and where this raises; else it stays the
        caller's, and `close` frees the model.
        """
        new = cls.__new__(cls)
        Runner.__init__(new)
        new._cache = cache
        new._begin(model, chip, context, owned)
        return new

    def again(self, context: Context | None = None) -> Self:
        """Return this model once more, with buffers of its own; nothing is compiled.

        context: another opened device of the same chip, which is closed with the new model; None
        for the one that this model is on. Raises DeviceError.
        """
        new = type(self).__new__(type(self))
        Runner.__init__(new)
        new._cache, new.plan, new.programs = self._cache, self.plan, self.programs
        new._begin(None, self._chip, context or self._contexts[0], owned=context is not None)
        return new

    def _begin(
        self, model: Graph | Preparer | None, chip: Device, context: Context | None, owned: bool
    ) -> None:
        """Make the model ready; `model` None where plan and programs are there already."""
        self._chip = chip
        self._copies: list[Model] = []
        self._closed = False
        self._lock = threading.Lock()
        self._contexts: list[Context | None] = [context]
        self._owned: list[Context | None] = [context] if owned else []
        self._executables: list[Executable | None] = []
        try:
            self._prepare(model, chip)
        except BaseException:
            self.close()
            raise

    def _prepare(self, model: Graph | Preparer | None, chip: Device) -> None:
        devices = _with_cpu(chip)
        if len(devices) > 1:
            self._contexts.append(open_device(CPU)[1])
            self._owned.append(self._contexts[-1])
        if model is not None:
            self._compile(model, devices)
        self.graph = self.plan.graph
        self.inputs = described(self.graph.inputs, self.graph.input_names)
        self.outputs = described(self.graph.outputs, self.graph.output_names)
        for part, program in zip(self.plan.partitions, self.programs, strict=True):
            context = self._contexts[part.device] if part.device != NOWHERE else None
            with trace.span("upload", partition=part.index):
                loaded = context.load(program) if context and program else None
            self._executables.append(loaded)
        self._last = _last_uses(self.plan)
        read = {v for part in self.plan.partitions for v in part.graph.inputs}
        self._constants = {v: v.data for v in (*read, *self.graph.outputs) if v.data is not None}
        made = {v for part in self.plan.partitions for v in part.graph.outputs}
        outs = self.graph.outputs  # what is an output twice is handed out once, then copied
        self._own = [v in made and v not in outs[:n] for n, v in enumerate(outs)]

    def _compile(self, model: Graph | Preparer, devices: Sequence[Device]) -> None:
        if isinstance(model, Graph):
            self.plan, self.programs = compile_graph(model, devices, self._cache)
        else:
            self.plan, self.programs = model(devices, self._cache)
        for doubt in doubted(self.plan, devices[0]):
            logging.getLogger("teflon").warning("%s", doubt)

    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        results = self._run(self.given(arrays, named))
        return dict(zip((o.name for o in self.outputs), results, strict=True))

    @property
    def timeline(self) -> Timeline | None:
        context = self._contexts[0]
        return None if context is None else context.timeline

    def run(self, *arrays: Given) -> list[Array]:
        return self._run(self.given(arrays, {}))

    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        return ((itself, *(partial(instead, copy) for copy in self.overlapping()[1:])),)

    def overlapping(self) -> Sequence[Model]:
        """Return this model, and copies of it on the same device: while the device works for one,
        the host prepares the inputs or takes the outputs of another. Raises DeviceError.
        """
        while len(self._copies) < OVERLAPPING - 1:
            self._copies.append(self.again())
        return (self, *self._copies)

    def _free(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        with contextlib.ExitStack() as everything:  # closes all, also where one raises
            everything.callback(trace.write)
            for resource in (*self._owned, *self._executables, *self._copies):
                if resource is not None:
                    everything.callback(resource.close)

    def given(self, arrays: Sequence[Given], named: Mapping[str, npt.ArrayLike]) -> list[Array]:
        """Return C-contiguous inputs in the model's order. Raises OptionError."""
        if len(arrays) == 1 and isinstance(only := arrays[0], Mapping):
            arrays, named = (), {**only, **named}
        names = [i.name for i in self.inputs]
        if len(arrays) > len(names):
            raise OptionError(
                f"{self.graph.name}: {len(arrays)} arrays given, must be {len(names)}"
                f" ({', '.join(names)})"
            )
        given: dict[str, Any] = dict(zip(names, arrays, strict=False))
        for name, array in named.items():
            if name not in names:
                raise OptionError(
                    f"{self.graph.name}: there is no input {name!r},"
                    f" must be one of {', '.join(names)}{_hint(name, names)}"
                )
            if name in given:
                raise OptionError(f"input {name!r}: is given twice, must be given once")
            given[name] = array
        missing = [name for name in names if name not in given]
        if missing:
            raise OptionError(
                f"{self.graph.name}: input {missing[0]!r} is missing,"
                f" must be given ({_expected(self.inputs[names.index(missing[0])])})"
            )
        return [_checked(info, given[info.name]) for info in self.inputs]

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        if self._closed:
            raise OptionError(f"{self.graph.name}: the model is closed, must be open")
        with trace.span("inference", model=self.graph.name):
            return self._inference(inputs)

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
            values[v] if own else values[v].copy()
            for v, own in zip(self.graph.outputs, self._own, strict=True)
        ]

    def _invoke(
        self, part: Partition, executable: Executable | None, operands: Sequence[Array]
    ) -> list[Array]:
        if part.device == NOWHERE:
            placement = self.plan.placements[part.graph.ops[0]]
            reasons = [f"{device}: {reason}" for device, reason in placement.reasons]
            raise UnsupportedOperation(placement.op.title, reasons)
        context = self._contexts[part.device]
        if context is None or executable is None:
            name = self.plan.devices[part.device]
            raise DriverUnavailable(
                f"{name}: is the description of a chip, which compiles only;"
                f" to run, load with device='sim:{name.split()[-1]}' or the device itself"
            )
        start = time.perf_counter()
        with trace.span("partition", number=part.index, device=self.plan.devices[part.device]):
            results = context.invoke(executable, operands)
        if part.device == 0:
            verbose.invoked(time.perf_counter() - start)
        return results


def _with_cpu(device: Device) -> list[Device]:
    if device.driver == CPU:
        return [device]
    return [device, open_device(CPU)[0]]


def _last_uses(plan: Plan) -> list[tuple[Value, ...]]:
    """Return for each partition which values nobody reads after it."""
    found, later = [], set(plan.graph.outputs)
    for part in reversed(plan.partitions):
        mine = dict.fromkeys(part.graph.inputs)
        found.append(tuple(v for v in mine if v not in later))
        later.update(mine)
    return found[::-1]


def described(values: Sequence[Value], names: Sequence[str]) -> tuple[TensorInfo, ...]:
    """Describe tensors; a name that was used before gets a number."""
    seen: Counter[str] = Counter()
    found = []
    for value, name in zip(values, names, strict=True):
        seen[name] += 1
        unique = f"{name}_{seen[name]}" if seen[name] > 1 else name
        type_ = value.type
        found.append(TensorInfo(unique, type_.dtype.numpy, type_.shape, type_.quantization))
    return tuple(found)


def _expected(info: TensorInfo) -> str:
    return f"{info.dtype}{list(info.shape)}"


def _checked(info: TensorInfo, given: npt.ArrayLike) -> Array:
    array = np.asarray(given)
    if array.dtype != info.dtype or array.shape != info.shape:
        raise OptionError(
            f"input {info.name!r}: is {array.dtype}{list(array.shape)}, must be {_expected(info)}"
        )
    return np.ascontiguousarray(array)


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
