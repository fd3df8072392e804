"""Compiling a graph: passes, partitions, programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from teflon import debug, limits, trace
from teflon.compile.artefact import Artefact
from teflon.compile.cache import Cache, cache_for
from teflon.compile.chain import DEFAULT, Host, chain_for
from teflon.compile.partition import (
    Partition,
    Plan,
    failing_operations,
    partition,
    refuse_unplaced,
)
from teflon.compile.programs import compile_program
from teflon.errors import EncodingError
from teflon.ir.graph import Graph, Op
from teflon.ir.lower import STANDARD
from teflon.ir.passes import run_pipeline
from teflon.pipe import Device, Program

Observer = Callable[[str, Graph], None]
"""Called with a pass's name and the new graph after every pass that changed the graph."""


class Watch(Protocol):
    """Shows how a model is compiled; `teflon.inspect.verbose` prints Mesa's tables."""

    def show_support(self, plan: Plan) -> None:
        """Called with the plan, before anything is compiled."""

    def show_compiling(self, plan: Plan, part: Partition) -> None:
        """Called before each partition is compiled."""

    def show_compile_time(self, seconds: float) -> None:
        """Called after each partition of the first device."""


class _Silent:
    def show_support(self, plan: Plan) -> None: ...

    def show_compiling(self, plan: Plan, part: Partition) -> None: ...

    def show_compile_time(self, seconds: float) -> None: ...


SILENT: Watch = _Silent()
"""The watch that shows nothing."""


def plan_model(
    graph: Graph, device: Device, observer: Observer | None = None, host: Host = DEFAULT
) -> Plan:
    """Return the plan of a model for a device, with the chain of `host` for what it cannot run.

    It runs the standard passes, then the device's passes. It compiles and opens nothing. Raises
    OptionError if the host's runtime cannot read the model's file.
    """
    with trace.span("passes"):
        lowered = run_pipeline(graph, (*STANDARD, *device.passes()), observer=observer)
    limits.check_time(graph.name)
    kept = {(op.index, op.where) for op in lowered.ops}
    folded = tuple(op for op in graph.ops if (op.index, op.where) not in kept)
    with trace.span("partitioning"):
        plan = partition(lowered, chain_for(device, lowered, host))
    return replace(plan, folded=folded, host=host, listing=graph.listing)


def compile_plan(plan: Plan, cache: Cache | None = None, watch: Watch = SILENT) -> Artefact:
    """Return the artefact of a plan: compile each partition, or take it from the compile cache.

    If a device cannot compile a partition, the operations that prevent it go to the next device;
    the artefact then has a new plan, with the reasons. None as cache stands for the user's default
    one. Raises UnsupportedOperation if no device can run an operation.
    """
    devices = plan.chain
    store = cache_for() if cache is None else cache
    refused: list[tuple[int, Mapping[Op, str]]] = []
    while True:
        refuse_unplaced(plan)
        limits.check_time(plan.graph.name)
        programs: list[Program] = []
        for part in plan.partitions:
            limits.check_time(plan.graph.name)
            try:
                programs.append(_program(plan, part, devices, store, watch))
            except EncodingError as error:
                device = devices[part.device]
                refused.append((part.device, failing_operations(device, part.graph, error)))
                break
        else:
            _show(plan, devices, programs)
            return Artefact(plan, tuple(programs))
        again = partition(plan.graph, devices, refused)
        plan = replace(again, folded=plan.folded, host=plan.host, listing=plan.listing)


def compile_graph(
    graph: Graph,
    device: Device,
    cache: Cache | None = None,
    watch: Watch = SILENT,
    host: Host = DEFAULT,
) -> Artefact:
    """Compile a graph for a device, and for the chain of `host` what that device cannot run.

    Raises what `plan_model` and `compile_plan` raise.
    """
    plan = plan_model(graph, device, host=host)
    watch.show_support(plan)
    return compile_plan(plan, cache, watch)


def _program(
    plan: Plan, part: Partition, devices: Sequence[Device], cache: Cache, watch: Watch
) -> Program:
    watch.show_compiling(plan, part)
    start = time.perf_counter()
    with trace.span("compile", partition=part.index, device=plan.devices[part.device]):
        program = compile_program(devices[part.device], part.graph, cache)
    if part.device == 0:
        watch.show_compile_time(time.perf_counter() - start)
    return program


def _show(plan: Plan, devices: Sequence[Device], programs: Sequence[Program]) -> None:
    """Print the programs if TEFLON_DEBUG contains `stream` or `tasks`."""
    whole = debug.enabled("stream")
    if not whole and not debug.enabled("tasks"):
        return
    for part, program in zip(plan.partitions, programs, strict=True):
        device = devices[part.device]
        text = device.describe(program) if whole else device.outline(program)
        debug.log(f"# partition {part.index}\n{text}")
