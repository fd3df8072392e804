"""Reading and planning a model for `check`, `compile`, `dump` and `estimate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon.cli.common import driver_options
from teflon.compile.artefact import Artefact
from teflon.compile.cache import Cache, cache_and_options
from teflon.compile.partition import Plan
from teflon.compile.planning import Observer, compile_plan, plan_model
from teflon.compile.source import graph_of, open_model, read_graph
from teflon.compile.teflon_file import TeflonFile
from teflon.devices import AUTO, open_device, with_cpu
from teflon.inspect import verbose
from teflon.ir.graph import Graph
from teflon.pipe import Device
from teflon.samples import models


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model, and its plan for a device (number 0) and the CPU."""

    graph: Graph
    """The graph before all passes; of a compiled model, the graph in its file."""
    devices: tuple[Device, ...]
    plan: Plan
    cache: Cache
    artefact: Artefact | None = None  # of a compiled model
    file: TeflonFile | None = None

    def compile(self) -> Artefact:
        """Return the artefact: the final plan and the program of each partition."""
        return self.artefact or compile_plan(self.plan, self.devices, self.cache, verbose)


def read_model(text: str) -> tuple[Path, Graph]:
    """Return the path and the graph of a model; `text` is a path or a name of `teflon models`."""
    path = models.resolve(text)
    return path, read_graph(path)


def plan_of(options: argparse.Namespace, observer: Observer | None = None) -> PlannedModel:
    """Return the plan of `options.model` for `options.device`, without compiling it.

    For a compiled model, the device `auto` means the device that it was compiled for.
    """
    cache, rest = cache_and_options(driver_options(options.option))
    file = open_model(models.resolve(options.model))
    if isinstance(file, TeflonFile):
        return _plan_of_file(file, options.device, rest, cache)
    device = describe(options.device, rest)
    graph = graph_of(file)
    plan = plan_model(graph, device, observer)
    verbose.show_support(plan)
    return PlannedModel(graph, with_cpu(device), plan, cache)


def _plan_of_file(
    file: TeflonFile, spec: str, rest: Mapping[str, object], cache: Cache
) -> PlannedModel:
    device = file.device() if spec == AUTO else describe(spec, rest)
    artefact = file.artefact(with_cpu(device))
    return PlannedModel(artefact.plan.graph, artefact.devices, artefact.plan, cache, artefact, file)


def describe(spec: str, options: Mapping[str, object]) -> Device:
    """Return a device's description; a device that must be opened for it is closed again."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device
