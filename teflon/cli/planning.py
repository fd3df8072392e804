"""What `check`, `compile`, `dump` and `bench` share: a model, a device, who runs what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon import models
from teflon.cache import Cache, split
from teflon.cli.common import driver_options
from teflon.devices import CPU, open_device
from teflon.ir.graph import Graph
from teflon.loading import load_graph
from teflon.partition import Plan
from teflon.pipe import Device, Program
from teflon.runtime import compile_plan, plan_model


@dataclass(frozen=True, eq=False)
class Planned:
    """A model as read, and cut between a device (number 0) and the CPU."""

    read: Graph
    devices: tuple[Device, ...]
    plan: Plan
    cache: Cache

    def compile_all(self) -> tuple[Plan, tuple[Program | None, ...]]:
        """Return the final plan and every partition's program; None where nothing runs it."""
        return compile_plan(self.plan, self.devices, self.cache)

    def compile(self) -> tuple[Plan, list[tuple[int, Program]]]:
        """Return the final plan, and (partition's number, program) of all that are the device's."""
        plan, programs = self.compile_all()
        pairs = zip(plan.partitions, programs, strict=True)
        return plan, [(part.index, p) for part, p in pairs if p and part.device == 0]


def read_model(text: str) -> tuple[Path, Graph]:
    """Return the path and the graph of a file, or of a name that `teflon models` knows."""
    path = models.resolve(text)
    return path, load_graph(path)


def plan(
    options: argparse.Namespace, observer: Callable[[str, Graph], None] | None = None
) -> Planned:
    """Return what `options.model` becomes on `options.device`; nothing is compiled yet."""
    cache, rest = split(driver_options(options.option))
    device = _describe(options.device, rest)
    _, graph = read_model(options.model)
    devices = (device,) if device.driver == CPU else (device, _describe(CPU, {}))
    return Planned(graph, devices, plan_model(graph, device, observer), cache)


def _describe(spec: str, options: Mapping[str, object]) -> Device:
    """Return a device without keeping it open."""
    device, context = open_device(spec, options)
    if context is not None:
        context.close()
    return device
