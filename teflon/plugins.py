"""Hooks and discovery of plugins: drivers in the entry-point group `teflon.drivers`, frontends in
`teflon.frontends`.

Anybody can write a plugin. A plugin that is broken is left out, with one sentence about the reason
in `Registry.broken` or `Formats.broken`; the other plugins still work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, entry_points, version
from typing import Protocol, TypeVar

import pluggy

from teflon import debug
from teflon.pipe import INTERFACE_VERSION, Driver, Frontend, Option, Recorder

DRIVERS = "teflon.drivers"
FRONTENDS = "teflon.frontends"
OURS = "teflon-npu"
RESERVED = ("auto",)
"""Names that drivers and frontends cannot have: as device specs they mean something else."""

hookspec = pluggy.HookspecMarker("teflon")
hookimpl = pluggy.HookimplMarker("teflon")


class Hooks:
    """The hooks that plugins implement: `teflon_driver` for a driver, perhaps with
    `teflon_recorder`, or `teflon_frontend` for a model format.
    """

    @hookspec
    def teflon_driver(self) -> Driver:
        """Return the driver's description.

        A process that uses a device calls this once for every installed plugin, so it must be
        cheap: import compilers and simulators inside the driver's methods, not here.
        """
        raise NotImplementedError

    @hookspec
    def teflon_recorder(self) -> Recorder:
        """Return the reader of this driver's recordings. This hook is optional.

        It is called right after `teflon_driver` and must be as cheap.
        """
        raise NotImplementedError

    @hookspec
    def teflon_frontend(self) -> Frontend:
        """Return the description of a model format.

        A process that opens a model file calls this once for every installed plugin, so it must be
        cheap: import readers inside the frontend's methods, not here.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Registry:
    """The drivers of this installation, and why other plugins cannot be used."""

    drivers: dict[str, Driver]
    broken: dict[str, str]  # entry point -> one sentence
    recorders: Mapping[str, Recorder] = field(default_factory=dict)
    """Driver name -> its recorder; not every driver has one."""
    ours: frozenset[str] = frozenset()
    """The drivers of this package; all others are guarded (`teflon.guard`)."""


@dataclass(frozen=True)
class Formats:
    """The frontends of this installation, and why other plugins cannot be used."""

    frontends: dict[str, Frontend]
    broken: dict[str, str]  # entry point -> one sentence


@cache
def discover() -> Registry:
    """Return all drivers; broken plugins are listed with the reason.

    The drivers of this package come first, so that no other plugin can take their names. The others
    follow in the order of their entry points' names.
    """
    recorders: dict[str, Recorder] = {}

    def ask(plugin: pluggy.PluginManager, name: str) -> Driver:
        drivers: list[Driver] = plugin.hook.teflon_driver()
        driver = _single_answer(drivers, Driver, f"teflon_driver of {name}")
        if answers := plugin.hook.teflon_recorder():
            recorder = _single_answer(answers, Recorder, f"teflon_recorder of {name}")
            recorders[driver.name] = recorder
        return driver

    drivers, broken = _plugins(DRIVERS, ask, _driver_problem)
    for driver in drivers.values():
        debug.add_flags(driver.debug_flags)
    debug.check()
    known = {name: recorders[name] for name in drivers if name in recorders}
    return Registry(drivers, broken, known, _ours())


@cache
def formats() -> Formats:
    """Return all frontends, in the order of `discover`; lists broken plugins with the reason."""

    def ask(plugin: pluggy.PluginManager, name: str) -> Frontend:
        answers: list[Frontend] = plugin.hook.teflon_frontend()
        return _single_answer(answers, Frontend, f"teflon_frontend of {name}")

    return Formats(*_plugins(FRONTENDS, ask, _frontend_problem))


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def interface(self) -> tuple[int, int]: ...


Kind = TypeVar("Kind")
Plugin = TypeVar("Plugin", bound=_Named)


def _plugins(
    group: str,
    ask: Callable[[pluggy.PluginManager, str], Plugin],
    problem_of: Callable[[Plugin], str],
) -> tuple[dict[str, Plugin], dict[str, str]]:
    """Return the plugins of a group by name, and why the others cannot be used."""
    found: dict[str, Plugin] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=group), key=_order):
        try:
            if requirements := _requirements(point.dist):
                _refuse_missing(requirements)
            plugin = ask(_manager_of(point.load(), point.name), point.name)
            problem = _problem(plugin, found) or problem_of(plugin)
        except (Exception, SystemExit) as error:  # other people's modules may raise anything
            problem = f"{type(error).__name__}: {error}"
        if problem:
            broken[_unique_name(point, broken)] = problem
        else:
            found[plugin.name] = plugin
    return found, broken


def _ours() -> frozenset[str]:
    """Return the names of this package's drivers: its entry points have the same."""
    return frozenset(p.name for p in entry_points(group=DRIVERS) if _distribution(p) == OURS)


def _order(point: EntryPoint) -> tuple[bool, str, str]:
    return _distribution(point) != OURS, point.name, point.value


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _unique_name(point: EntryPoint, taken: Iterable[str]) -> str:
    """Return a name for an entry point; two distributions may use the same entry-point name."""
    if point.name not in taken:
        return point.name
    return f"{point.name} ({_distribution(point) or point.value})"


def _requirements(dist: Distribution | None) -> list[str]:
    if dist is None or dist.name == OURS:
        return []
    return list(dist.requires or ())


def _refuse_missing(requirements: Iterable[str]) -> None:
    """Raise ImportError for the first requirement of a distribution that is not met here."""
    from packaging.requirements import Requirement  # 20 ms, and only other people's plugins need it

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
            raise ImportError(
                f"it requires {requirement}, version {have} is installed (install another version)"
            )


def _manager_of(plugin: object, name: str) -> pluggy.PluginManager:
    """Return a manager of this plugin alone. Raises an error for a misspelt hook."""
    manager = pluggy.PluginManager("teflon")
    manager.add_hookspecs(Hooks)
    manager.register(plugin, name=name)
    manager.check_pending()
    return manager


def _single_answer(answers: list[Kind], kind: type, hook: str) -> Kind:
    """Return the only answer of a hook. Raises TypeError for several, and for another type."""
    if len(answers) != 1 or not isinstance(answers[0], kind):
        raise TypeError(f"{hook} must return one {kind.__name__}, is {answers!r}")
    return answers[0]


def _problem(plugin: _Named, taken: Mapping[str, _Named]) -> str:
    """Return why a plugin cannot be used here; empty if it can."""
    major, minor = INTERFACE_VERSION
    given: object = plugin.interface
    if not (isinstance(given, tuple) and [type(part) for part in given] == [int, int]):
        return f"its interface is {given!r}, must be a pair of numbers like {major, minor}"
    if plugin.interface[0] != major or plugin.interface[1] > minor:
        theirs = ".".join(map(str, plugin.interface))
        return f"is written for interface {theirs}, must be {major}.0 to {major}.{minor}"
    kind = "frontend" if isinstance(plugin, Frontend) else "driver"
    if plugin.name in RESERVED or not re.fullmatch(r"[\w-]+", plugin.name):
        return f"the {kind} name {plugin.name!r} cannot be used, must be a word other than 'auto'"
    if plugin.name in taken:
        return f"the {kind} name {plugin.name!r} is taken by {taken[plugin.name].summary!r}"
    return ""


def _driver_problem(driver: Driver) -> str:
    if not isinstance(driver.debug_flags, Mapping):
        return f"debug_flags is {driver.debug_flags!r}, must be a mapping of names to help texts"
    for name in ("chips", "runs"):
        texts: object = getattr(driver, name)
        if not isinstance(texts, tuple | list) or not all(isinstance(t, str) for t in texts):
            return f"{name} is {texts!r:.80}, must be a tuple of texts"
    if not driver.chips:
        return "chips is empty, must have the name of a chip"
    options: object = driver.options
    if not isinstance(options, Mapping) or not all(isinstance(o, Option) for o in options.values()):
        return f"options is {options!r:.80}, must be a mapping of names to Option"
    return ""


def _frontend_problem(frontend: Frontend) -> str:
    suffixes: object = frontend.suffixes
    if isinstance(suffixes, tuple | list) and all(_is_suffix(suffix) for suffix in suffixes):
        return ""
    return f"suffixes is {suffixes!r}, must be endings in lower case with their dot: ('.tflite',)"


def _is_suffix(text: object) -> bool:
    return isinstance(text, str) and text.startswith(".") and text == text.lower()
