"""Device spec strings: what `device=`, `--device` and TEFLON_DEVICE mean.

auto                 the NPU of this machine: drivers in alphabetical order (cpu never), and
                     the nodes of each in the order in which it found them
rocket, cpu, ...     the first device of that driver
/dev/accel/accel0    that node
sim:rk3588           that chip, simulated
rk3588               that chip's description: compiles, does not run
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from teflon.errors import DriverUnavailable, OptionError, did_you_mean
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import Registry, discover

AUTO = "auto"
CPU = "cpu"
SIMULATED = "sim:"
VARIABLE = "TEFLON_DEVICE"


@dataclass(frozen=True)
class DeviceInfo:
    """A row of the list of devices: `spec` is what to pass as `device`."""

    spec: str
    driver: str
    chip: str = ""
    kind: str = "node"  # node, simulated, description, broken
    problem: str = ""
    cure: str = ""

    @property
    def usable(self) -> bool:
        return not self.problem


def open_device(
    spec: str = AUTO, options: Mapping[str, object] | None = None
) -> tuple[Device, Context | None]:
    """Return the device that a spec names, and its context (None for a mere description).

    `auto` stands for TEFLON_DEVICE where that is set. Raises OptionError for a spec or an option
    that nobody knows, DriverUnavailable where the device is not there, DeviceError where it
    cannot be opened.
    """
    wanted = spec.strip()
    if wanted in ("", AUTO):
        wanted = os.environ.get(VARIABLE, "").strip() or AUTO
    registry, given = discover(), {k: str(v) for k, v in (options or {}).items()}
    if wanted == AUTO:
        return _opened(*_automatic(registry), given)
    if wanted in registry.drivers:
        driver = registry.drivers[wanted]
        return _opened(driver, _first(driver), given)
    if wanted in registry.broken:
        raise DriverUnavailable(f"{wanted}: the driver is broken: {registry.broken[wanted]}")
    if wanted.startswith("/"):
        return _opened(*_at(wanted, registry), given)
    return _chip(wanted, registry, given)


def with_cpu(device: Device) -> tuple[Device, ...]:
    """Return a device and, unless it is the CPU itself, the CPU: who runs a model on it."""
    return (device,) if device.driver == CPU else (device, open_device(CPU)[0])


def devices() -> list[DeviceInfo]:
    """Return every device that can be named, those that cannot be used with the reason."""
    registry, rows = discover(), list[DeviceInfo]()
    for driver in _sorted(registry):
        rows += [
            DeviceInfo(n.path, driver.name, n.chip, "node", n.problem, n.cure)
            for n in probe(driver)
        ]
        if has_simulator(driver):
            rows += [DeviceInfo(SIMULATED + c, driver.name, c, "simulated") for c in driver.chips]
        if driver.name != CPU:
            rows += [DeviceInfo(c, driver.name, c, "description") for c in driver.chips]
    rows += [DeviceInfo(n, n, "", "broken", why) for n, why in registry.broken.items()]
    return rows


def probe(driver: Driver, root: str = "/") -> list[Node]:
    """Return a driver's nodes; one that raises is a node that cannot be used, and harms nobody."""
    try:
        return driver.probe(root)
    except Exception as error:  # whatever a stranger's driver raises
        problem = f"the driver's probe failed, {type(error).__name__}: {error}"
        return [Node(path="", driver=driver.name, problem=problem)]


def has_simulator(driver: Driver) -> bool:
    """Whether `sim:` works with this driver's chips."""
    return driver.name != CPU and type(driver).simulate is not Driver.simulate


def check_options(driver: Driver, options: Mapping[str, str]) -> None:
    """Raise OptionError for an option that the driver does not take, or a value it may not have."""
    for name, value in options.items():
        option = driver.options.get(name)
        if option is None:
            raise OptionError(
                f"option {name!r}: driver {driver.name} does not know it,"
                f" {_takes(driver)}{did_you_mean(name, driver.options)}"
            )
        if option.choices and value not in option.choices:
            raise OptionError(
                f"option {name}: is {value!r}, must be one of {', '.join(option.choices)}"
                f"{did_you_mean(value, option.choices)}"
            )


def _sorted(registry: Registry) -> list[Driver]:
    return [registry.drivers[name] for name in sorted(registry.drivers)]


def _takes(driver: Driver) -> str:
    return f"it takes {', '.join(driver.options)}" if driver.options else "it takes none"


def _opened(driver: Driver, node: Node, options: Mapping[str, str]) -> tuple[Device, Context]:
    check_options(driver, options)
    context = driver.open(node, options)
    return context.device, context


def _automatic(registry: Registry) -> tuple[Driver, Node]:
    looked = []
    for driver in _sorted(registry):
        if driver.name == CPU:
            continue
        nodes = probe(driver)
        for node in nodes:
            if node.usable:
                return driver, node
        looked.append(f"{driver.name}: {_refused(nodes) or _absent(driver)}")
    looked += [f"{name}: broken: {why}" for name, why in registry.broken.items()]
    raise DriverUnavailable(
        f"device auto: no NPU was found ({'; '.join(looked) or 'no NPU driver is installed'});"
        f" {_instead(registry)}"
    )


def _instead(registry: Registry) -> str:
    drivers = _sorted(registry)
    simulated = [SIMULATED + c for d in drivers if has_simulator(d) for c in d.chips]
    names = ", ".join([*simulated, CPU] if CPU in registry.drivers else simulated)
    return f"without one, name a simulated chip or the reference: {names}"


def _refused(nodes: Iterable[Node]) -> str:
    return "; ".join(_why_not(node) for node in nodes)


def _why_not(node: Node) -> str:
    place = f"{node.path}: " if node.path else ""
    return f"{place}{node.problem}" + (f" ({node.cure})" if node.cure else "")


def _absent(driver: Driver) -> str:
    return f"neither a node nor a device tree entry was found ({driver.summary})"


def _first(driver: Driver) -> Node:
    nodes = probe(driver)
    for node in nodes:
        if node.usable:
            return node
    simulated = f"; {SIMULATED}{driver.chips[0]} simulates it" if has_simulator(driver) else ""
    raise DriverUnavailable(
        f"device {driver.name}: {_refused(nodes) or _absent(driver)}{simulated}"
    )


def _at(path: str, registry: Registry) -> tuple[Driver, Node]:
    nodes = [(d, n) for d in _sorted(registry) for n in probe(d)]
    here = [(d, n) for d, n in nodes if n.path == path]
    for driver, node in here:
        if node.usable:
            return driver, node
    if here:
        raise DriverUnavailable(f"device {_refused(n for _, n in here)}")
    known = ", ".join(n.path for _, n in nodes if n.path.startswith("/")) or "none"
    raise DriverUnavailable(f"device {path}: no driver knows this node; known nodes: {known}")


def _chip(
    wanted: str, registry: Registry, options: Mapping[str, str]
) -> tuple[Device, Context | None]:
    chip = wanted.removeprefix(SIMULATED)
    for driver in _sorted(registry):
        if chip in driver.chips:
            check_options(driver, options)
            if chip == wanted:
                return driver.device(chip, options), None
            context = driver.simulate(chip, options)
            return context.device, context
    known = _known(registry)
    broken = "".join(f"; driver {n} is broken: {why}" for n, why in registry.broken.items())
    raise OptionError(
        f"device {wanted!r}: is not known, must be one of {', '.join(known)}"
        f"{did_you_mean(wanted, known)}{broken}"
    )


def _known(registry: Registry) -> list[str]:
    drivers = _sorted(registry)
    simulated = [SIMULATED + c for d in drivers if has_simulator(d) for c in d.chips]
    chips = [c for d in drivers for c in d.chips]
    return list(
        dict.fromkeys([AUTO, *(d.name for d in drivers), *simulated, *chips, "a node's path"])
    )
