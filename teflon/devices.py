"""Device specs: the meaning of `device=`, `--device` and TEFLON_DEVICE.

auto                 the first usable NPU of this machine: drivers in alphabetical order,
                     the nodes of each driver in the order of its `probe`
rocket, ...          the first usable device of this driver
cpu                  the reference arithmetic, on this computer's processor
tflite, onnxruntime  an installed runtime of the model's own format, on the same processor
/dev/accel/accel0    this device node
sim:rk3588           the simulator of this chip
rk3588               the description of this chip: it compiles but does not run
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import SupportsIndex

from teflon.errors import DriverUnavailable, OptionError, did_you_mean, shown
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import Registry, discover

AUTO = "auto"
CPU = "cpu"
SIMULATED = "sim:"
VARIABLE = "TEFLON_DEVICE"


@dataclass(frozen=True)
class DeviceInfo:
    """A row of the list of devices; `spec` is the value for the argument `device`."""

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
    """Return the device that a spec names, and its context (None for a chip's description).

    `auto` means TEFLON_DEVICE if that variable is set. Raises OptionError for an unknown spec or
    option, DriverUnavailable for a device that is not there, DeviceError for one that cannot be
    opened.
    """
    if not isinstance(spec, str):
        raise OptionError(
            f"device: is {shown(spec)}, must be a text such as {AUTO!r} or 'sim:rk3588'"
        )
    wanted = spec.strip()
    if wanted in ("", AUTO):
        wanted = os.environ.get(VARIABLE, "").strip() or AUTO
    registry, given = discover(), _present(options or {})
    if wanted == AUTO:
        return _open(*_find_npu(registry), given)
    if wanted in registry.drivers:
        driver = registry.drivers[wanted]
        if driver.runs:  # it was named: it is to run all that it can
            given = {"known": "yes", **given}
        return _open(driver, _first_usable(driver), given)
    if wanted in registry.broken:
        raise DriverUnavailable(f"{wanted}: the driver is broken: {registry.broken[wanted]}")
    if wanted.startswith("/"):
        return _open(*_find_node(wanted, registry), given)
    return _open_chip(wanted, registry, given)


def with_cpu(device: Device) -> tuple[Device, ...]:
    """Return the devices that together run a model: this one, and the CPU unless it is the same."""
    return (device,) if device.driver == CPU else (device, open_device(CPU)[0])


def devices() -> list[DeviceInfo]:
    """Return every device that a spec can name; `problem` says why one cannot be used."""
    registry, rows = discover(), list[DeviceInfo]()
    for driver in _drivers(registry):
        rows += [
            DeviceInfo(n.path, driver.name, n.chip, "node", n.problem, n.cure)
            for n in probe(driver)
        ]
        if has_simulator(driver):
            rows += [DeviceInfo(SIMULATED + c, driver.name, c, "simulated") for c in driver.chips]
        if is_npu(driver):
            rows += [DeviceInfo(c, driver.name, c, "description") for c in driver.chips]
    rows += [DeviceInfo(n, n, "", "broken", why) for n, why in registry.broken.items()]
    return rows


def probe(driver: Driver, root: str = "/") -> list[Node]:
    """Return a driver's nodes.

    If its `probe` raises, and for each thing in its result that is no node of this driver, there is
    an unusable node that says so.
    """
    try:
        found: object = driver.probe(root)
    except (Exception, SystemExit) as error:  # other people's drivers may raise anything
        problem = f"the driver's probe failed, {type(error).__name__}: {error}"
        return [Node(path="", driver=driver.name, problem=problem)]
    if driver.name in discover().ours:
        return list(found)  # type: ignore[call-overload,no-any-return]
    from teflon.guard import probed

    return probed(found, driver)


def has_simulator(driver: Driver) -> bool:
    """Whether `sim:` works for this driver's chips."""
    return is_npu(driver) and type(driver).simulate is not Driver.simulate


def is_npu(driver: Driver) -> bool:
    """Whether a driver is for devices other than this computer's processor."""
    return driver.name != CPU and not driver.runs


def check_options(driver: Driver, options: Mapping[str, object]) -> dict[str, str]:
    """Return the options as texts.

    Raises OptionError for an option that the driver does not have, or for a wrong value: paths and
    texts are right, and numbers where no path is meant.
    """
    found = {}
    for name, value in options.items():
        option = driver.options.get(name)
        if option is None:
            raise OptionError(
                f"option {name!r:.60}: driver {driver.name} does not know it,"
                f" {_option_list(driver)}{did_you_mean(name, driver.options)}"
            )
        text = _path(name, value) if option.path else _text(name, value)
        if option.choices and text not in option.choices:
            raise OptionError(
                f"option {name}: is {shown(value)}, must be one of {', '.join(option.choices)}"
                f"{did_you_mean(text, option.choices)}"
            )
        found[name] = text
    return found


def _present(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options without those that are None, which stands for the default."""
    return {name: value for name, value in options.items() if value is not None}


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return _path(name, value)
    try:
        number = not isinstance(value, bool) and float(value) == value  # type: ignore[arg-type]
    except Exception:  # a class of the caller's
        number = False
    if not number or not isinstance(value, int | float | SupportsIndex):
        raise OptionError(f"option {name}: is {shown(value)}, must be a text or a number")
    return str(value)


def _path(name: str, value: object) -> str:
    """Return a path as text. Raises OptionError for what no file can be called."""
    try:
        path = os.fsdecode(value)  # type: ignore[arg-type]
        usable = not isinstance(value, bytes)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)
    except Exception as error:  # UnicodeEncodeError, a NUL, a name that is too long, `__fspath__`
        why = getattr(error, "strerror", None) or error
        raise OptionError(
            f"option {name}: is {shown(value)}, must be the path of a file ({why})"
        ) from error
    if not usable:
        raise OptionError(f"option {name}: is {shown(value)}, must be the path of a file")
    return path


def _drivers(registry: Registry) -> list[Driver]:
    return [registry.drivers[name] for name in sorted(registry.drivers)]


def _option_list(driver: Driver) -> str:
    return f"it takes {', '.join(driver.options)}" if driver.options else "it takes none"


def _open(driver: Driver, node: Node, options: Mapping[str, object]) -> tuple[Device, Context]:
    context = guarded(driver).open(node, check_options(driver, options))
    return context.device, context


def guarded(driver: Driver) -> Driver:
    """Return a driver that raises DriverFault for its mistakes, if it is none of this package's."""
    if driver.name not in discover().ours:
        from teflon.guard import guard_driver

        guard_driver(driver)
    return driver


def _find_npu(registry: Registry) -> tuple[Driver, Node]:
    reasons = []
    for driver in _drivers(registry):
        if not is_npu(driver):
            continue
        nodes = probe(driver)
        for node in nodes:
            if node.usable:
                return driver, node
        reasons.append(f"{driver.name}: {_problems(nodes) or _not_found(driver)}")
    reasons += [f"{name}: broken: {why}" for name, why in registry.broken.items()]
    raise DriverUnavailable(
        f"device auto: no NPU was found ({'; '.join(reasons) or 'no NPU driver is installed'});"
        f" {_alternatives(registry)}"
    )


def _alternatives(registry: Registry) -> str:
    names = _simulator_specs(registry) + ([CPU] if CPU in registry.drivers else [])
    return f"to run without an NPU, name a simulated chip or the reference: {', '.join(names)}"


def _simulator_specs(registry: Registry) -> list[str]:
    return [SIMULATED + c for d in _drivers(registry) if has_simulator(d) for c in d.chips]


def _problems(nodes: Iterable[Node]) -> str:
    return "; ".join(_problem(node) for node in nodes)


def _problem(node: Node) -> str:
    place = f"{node.path}: " if node.path else ""
    return f"{place}{node.problem}" + (f" ({node.cure})" if node.cure else "")


def _not_found(driver: Driver) -> str:
    return f"neither a node nor a device tree entry was found ({driver.summary})"


def _first_usable(driver: Driver) -> Node:
    nodes = probe(driver)
    for node in nodes:
        if node.usable:
            return node
    simulated = f"; {SIMULATED}{driver.chips[0]} simulates it" if has_simulator(driver) else ""
    raise DriverUnavailable(
        f"device {driver.name}: {_problems(nodes) or _not_found(driver)}{simulated}"
    )


def _find_node(path: str, registry: Registry) -> tuple[Driver, Node]:
    nodes = [(d, n) for d in _drivers(registry) for n in probe(d)]
    here = [(d, n) for d, n in nodes if n.path == path]
    for driver, node in here:
        if node.usable:
            return driver, node
    if here:
        raise DriverUnavailable(f"device {_problems(n for _, n in here)}")
    known = ", ".join(n.path for _, n in nodes if n.path.startswith("/")) or "none"
    raise DriverUnavailable(f"device {path}: no driver knows this node; known nodes: {known}")


def _open_chip(
    wanted: str, registry: Registry, options: Mapping[str, object]
) -> tuple[Device, Context | None]:
    chip = wanted.removeprefix(SIMULATED)
    for driver in _drivers(registry):
        if chip in driver.chips:
            texts = check_options(driver, options)
            if chip == wanted:
                return guarded(driver).device(chip, texts), None
            context = guarded(driver).simulate(chip, texts)
            return context.device, context
    known = _specs(registry)
    broken = "".join(f"; driver {n} is broken: {why}" for n, why in registry.broken.items())
    raise OptionError(
        f"device {wanted!r:.60}: is not known, must be one of {', '.join(known)}"
        f"{did_you_mean(wanted, known)}{broken}"
    )


def _specs(registry: Registry) -> list[str]:
    drivers = _drivers(registry)
    chips = [c for d in drivers for c in d.chips]
    simulators = _simulator_specs(registry)
    return list(
        dict.fromkeys([AUTO, *(d.name for d in drivers), *simulators, *chips, "a node's path"])
    )
