"""What `check`, `compile`, `dump` and `estimate` share: a model, a device, who runs what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon.cli.common import driver_options
from teflon.compile.artefact import Artefact
from teflon.compile.cache import Cache, taken_from
from teflon.compile.partition import Plan
from teflon.compile.planning import Observer, compile_plan, plan_model
from teflon.compile.source import open_model, read_graph
from teflon.compile.teflon_file import TeflonFile
from teflon.devices import AUTO, open_device, with_cpu
from teflon.inspect import verbose
from teflon.ir.graph import Graph
from teflon.pipe import Device
from teflon.samples import models


@dataclass(frozen=True, eq=False)
class Planned:
    """A model as read, and cut between a device (number 0) and the CPU."""

    read: Graph
    devices: tuple[Device, ...]
    plan: Plan
    cache: Cache
    artefact: Artefact | None = None  # known where it comes from a file
    file: TeflonFile | None = None

    def compile(self) -> Artefact:
        """Return the final plan and every partition's program."""
        return self.artefact or compile_plan(self.plan, self.devices, self.cache, verbose)


def read_model(text: str) -> tuple[Path, Graph]:
    """Return the path and the graph of a file, or of a name that `teflon models` knows."""
    path = models.resolve(text)
    return path, read_graph(path)


def plan(options: argparse.Namespace, observer: Observer | None = None) -> Planned:
    """Return what `options.model` becomes on `options.device`; nothing is compiled yet.

    A compiled model says itself for which device it is, where no device is named.
    """
    cache, rest = taken_from(driver_options(options.option))
    path = models.resolve(options.model)
    file = open_model(path)
    if isinstance(file, TeflonFile):
        return _compiled(file, options.device, rest, cache)
    device = _describe(options.device, rest)
    graph = read_graph(path)
    found = plan_model(graph, device, observer)
    verbose.show_support(found)
    return Planned(graph, with_cpu(device), found, cache)


def _compiled(file: TeflonFile, spec: str, rest: Mapping[str, object], cache: Cache) -> Planned:
    device = file.device() if spec == AUTO else _describe(spec, rest)
    artefact = file.artefact(with_cpu(device))
    return Planned(artefact.plan.graph, artefact.devices, artefact.plan, cache, artefact, file)


def _describe(spec: str, options: Mapping[str, object]) -> Device:
    """Return a device without keeping it open."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device
