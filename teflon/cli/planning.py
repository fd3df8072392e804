"""Reading and planning a model for `check`, `compile`, `dump` and `estimate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from teflon.cli.common import driver_options, input_shapes
from teflon.compile.artefact import Artefact
from teflon.compile.cache import Cache
from teflon.compile.chain import check_shapes, host_cache_options
from teflon.compile.partition import Plan
from teflon.compile.planning import Observer, compile_plan, plan_model
from teflon.compile.source import graph_of, open_model
from teflon.compile.teflon_file import TeflonFile
from teflon.devices import AUTO, open_device
from teflon.errors import OptionError
from teflon.inspect import verbose
from teflon.ir.graph import Graph
from teflon.pipe import Device
from teflon.samples import models


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model, and its plan for a device (number 0) and what runs the rest."""

    graph: Graph
    """The graph before all passes; of a compiled model, the graph in its file."""
    device: Device
    plan: Plan
    cache: Cache
    artefact: Artefact | None = None  # of a compiled model
    file: TeflonFile | None = None

    def compile(self) -> Artefact:
        """Return the artefact: the final plan and the program of each partition."""
        return self.artefact or compile_plan(self.plan, self.cache, verbose)


def read_model(options: argparse.Namespace) -> Graph:
    """Return the graph of `options.model`, a path or a name of `teflon models`, with the inputs'
    shapes of `options.shape`.
    """
    return graph_of(open_model(models.resolve(options.model)), shapes_of(options))


def shapes_of(options: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Return the inputs' shapes of `options.shape`. Raises OptionError."""
    return check_shapes(input_shapes(options.shape))


def plan_of(options: argparse.Namespace, observer: Observer | None = None) -> PlannedModel:
    """Return the plan of `options.model` for `options.device`, without compiling it.

    Operations that run nowhere are in the plan; `PlannedModel.compile` refuses them.

    For a compiled model, the device `auto` means the device that it was compiled for.
    """
    given = driver_options(options.option)
    spec, host, cache, rest = host_cache_options(given, options.device)
    file = open_model(models.resolve(options.model))
    if isinstance(file, TeflonFile):
        if options.shape:
            raise OptionError(f"{options.model}: is compiled already, its inputs' shapes are fixed")
        device = file.device() if spec == AUTO else describe(spec, rest)
        artefact = file.artefact(device, host)
        return PlannedModel(artefact.plan.graph, device, artefact.plan, cache, artefact, file)
    device = describe(spec, rest)
    graph = graph_of(file, shapes_of(options))
    plan = plan_model(graph, device, observer, host)
    verbose.show_support(plan)
    return PlannedModel(graph, device, plan, cache)


def describe(spec: str, options: Mapping[str, object]) -> Device:
    """Return a device's description; a device that must be opened for it is closed again."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device
