"""What `check`, `compile`, `dump` and `bench` share: a model, a device, who runs what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon.cli.common import driver_options
from teflon.compile.artefact import CompiledFile, is_compiled, open_compiled
from teflon.compile.cache import Cache, split
from teflon.compile.loading import load_graph
from teflon.compile.partition import Plan
from teflon.devices import AUTO, CPU, open_device
from teflon.ir.graph import Graph
from teflon.pipe import Device, Program
from teflon.run.model import compile_plan, plan_model
from teflon.samples import models


@dataclass(frozen=True, eq=False)
class Planned:
    """A model as read, and cut between a device (number 0) and the CPU."""

    read: Graph
    devices: tuple[Device, ...]
    plan: Plan
    cache: Cache
    programs: tuple[Program | None, ...] | None = None  # known where they come from a file
    file: CompiledFile | None = None

    def compile_all(self) -> tuple[Plan, tuple[Program | None, ...]]:
        """Return the final plan and every partition's program; None where nothing runs it."""
        if self.programs is not None:
            return self.plan, self.programs
        return compile_plan(self.plan, self.devices, self.cache)

    def compile(self) -> tuple[Plan, list[tuple[int, Program]]]:
        """Return the final plan, and (partition's number, program) of all that are the device's."""
        plan, programs = self.compile_all()
        pairs = zip(plan.partitions, programs, strict=True)
        return plan, [(part.index, p) for part, p in pairs if p and part.device == 0]


def read_model(text: str) -> tuple[Path, Graph]:
    """Return the path and the graph of a file, or of a name that `teflon models` knows."""
    path = models.resolve(text)
    return path, open_compiled(path).graph() if is_compiled(path) else load_graph(path)


def plan(
    options: argparse.Namespace, observer: Callable[[str, Graph], None] | None = None
) -> Planned:
    """Return what `options.model` becomes on `options.device`; nothing is compiled yet.

    A compiled model says itself for which device it is, where no device is named.
    """
    cache, rest = split(driver_options(options.option))
    path = models.resolve(options.model)
    if is_compiled(path):
        return _compiled(open_compiled(path), options.device, rest, cache)
    device = _describe(options.device, rest)
    graph = load_graph(path)
    devices = _with_cpu(device)
    return Planned(graph, devices, plan_model(graph, device, observer), cache)


def _compiled(file: CompiledFile, spec: str, rest: Mapping[str, object], cache: Cache) -> Planned:
    device = file.device() if spec == AUTO else _describe(spec, rest)
    devices = _with_cpu(device)
    plan, programs = file(devices, cache)
    return Planned(plan.graph, devices, plan, cache, programs, file)


def _with_cpu(device: Device) -> tuple[Device, ...]:
    return (device,) if device.driver == CPU else (device, _describe(CPU, {}))


def _describe(spec: str, options: Mapping[str, object]) -> Device:
    """Return a device without keeping it open."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device
