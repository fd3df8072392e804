"""Hook specification, and discovery of drivers through the entry points group `teflon.drivers`.

A plugin may be anybody's: whatever is wrong with it ends here as one sentence in `Registry.broken`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points, version

import pluggy

from teflon.pipe import INTERFACE_VERSION, Driver

GROUP = "teflon.drivers"
OURS = "teflon-npu"
RESERVED = ("auto",)
"""Specs with a meaning of their own: no driver can have these names."""

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
    """Return all drivers; a plugin that is broken is listed with its reason and harms nobody.

    Ours come first, so that no stranger's plugin can take their names; the others in the order of
    their entry points' names.
    """
    drivers: dict[str, Driver] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=_order):
        try:
            if requirements := _requirements(point.dist):
                _refuse_missing(requirements)
            driver = _ask(point.load(), point.name)
            problem = _problem(driver, drivers)
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises
            problem = f"{type(error).__name__}: {error}"
        if problem:
            broken[_unused(point, broken)] = problem
        else:
            drivers[driver.name] = driver
    return Registry(drivers, broken)


def _order(point: EntryPoint) -> tuple[bool, str, str]:
    return _distribution(point) != OURS, point.name, point.value


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _unused(point: EntryPoint, taken: Iterable[str]) -> str:
    """Return how to name an entry point: two distributions may have chosen the same name."""
    if point.name not in taken:
        return point.name
    return f"{point.name} ({_distribution(point) or point.value})"


def _requirements(dist: Distribution | None) -> list[str]:
    if dist is None or dist.name == OURS:
        return []
    return list(dist.requires or ())


def _refuse_missing(requirements: Iterable[str]) -> None:
    """Raise ImportError for the first requirement of a distribution that is not met here."""
    from packaging.requirements import Requirement  # 20 ms, for strangers' plugins only

    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(requirement.name)
        except PackageNotFoundError:
            raise ImportError(
                f"it requires {requirement}, which is not installed (install it)"
            ) from None
        if not requirement.specifier.contains(have, prereleases=True):
            raise ImportError(f"it requires {requirement}, {have} is installed (install another)")


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
    """Return why a driver cannot be used here; empty where it can."""
    major, minor = INTERFACE_VERSION
    given: object = driver.interface
    if not (isinstance(given, tuple) and [type(part) for part in given] == [int, int]):
        return f"its interface is {given!r}, must be a pair of numbers like {major, minor}"
    if driver.interface[0] != major or driver.interface[1] > minor:
        theirs = ".".join(map(str, driver.interface))
        return f"is written for interface {theirs}, this is {major}.{minor}"
    if driver.name in RESERVED or not re.fullmatch(r"[\w-]+", driver.name):
        return f"the driver name {driver.name!r} cannot be used, must be a word other than 'auto'"
    if driver.name in taken:
        return f"the driver name {driver.name!r} is taken by {taken[driver.name].summary!r}"
    return ""
