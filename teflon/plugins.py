"""Hook specification, and discovery of drivers through the entry points group `teflon.drivers`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

import pluggy

from teflon.pipe import INTERFACE_VERSION, Driver

GROUP = "teflon.drivers"
hookspec = pluggy.HookspecMarker("teflon")
hookimpl = pluggy.HookimplMarker("teflon")


class Hooks:
    """What a driver plugin implements."""

    @hookspec
    def teflon_driver(self) -> Driver:
        """Return the driver's description.

        Called once for every installed plugin whenever drivers are looked for, so it must be
        cheap: import compilers and simulators inside the driver's methods, not here.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Registry:
    """The drivers that were found, and why others were not."""

    drivers: dict[str, Driver]
    broken: dict[str, str]  # entry point -> one sentence


@cache
def discover() -> Registry:
    """Return all drivers; a plugin that is broken is listed with its reason and harms nobody."""
    drivers: dict[str, Driver] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        try:
            driver = _ask(point.load(), point.name)
        except Exception as error:  # whatever a stranger's module raises
            broken[point.name] = f"{type(error).__name__}: {error}"
            continue
        if problem := _problem(driver, drivers):
            broken[point.name] = problem
        else:
            drivers[driver.name] = driver
    return Registry(drivers, broken)


def _ask(plugin: object, name: str) -> Driver:
    manager = pluggy.PluginManager("teflon")
    manager.add_hookspecs(Hooks)
    manager.register(plugin, name=name)
    manager.check_pending()
    answers = manager.hook.teflon_driver()
    if len(answers) != 1 or not isinstance(answers[0], Driver):
        raise TypeError(f"teflon_driver of {name} must return one Driver, is {answers!r}")
    return answers[0]


def _problem(driver: Driver, taken: dict[str, Driver]) -> str:
    major, minor = INTERFACE_VERSION
    if driver.interface[0] != major or driver.interface[1] > minor:
        theirs = ".".join(map(str, driver.interface))
        return f"is written for interface {theirs}, this is {major}.{minor}"
    if driver.name in taken:
        return f"the driver name {driver.name!r} is taken by {taken[driver.name].summary!r}"
    return ""
