"""The chain of devices that together run a model: who runs what the device before leaves.

The device that the user named comes first, then the CPU driver, whose results are those of TFLite's
reference kernels, then the drivers that hand operations to another runtime (`Driver.runs`): these
run what only the file's own runtime knows. With the option `cpu`, the named one of them comes
before the CPU driver and runs what that one knows too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from teflon import limits
from teflon.compile.cache import Cache, cache_and_options
from teflon.devices import CPU, guarded, open_device, with_cpu
from teflon.errors import DriverUnavailable, OptionError, did_you_mean, shown
from teflon.ir.graph import Graph, Op
from teflon.ir.types import MOST_AXES, MOST_SIZE
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import discover

REFERENCE = "reference"
"""The value of the option `cpu` that means the CPU driver."""


@dataclass(frozen=True)
class Host:
    """Who runs what the device leaves to this computer: the options `cpu` and `threads`."""

    cpu: str = REFERENCE
    threads: str = ""

    @property
    def options(self) -> dict[str, str]:
        """The options of the driver that `cpu` names."""
        return {"known": "yes", **({"threads": self.threads} if self.threads else {})}

    def of(self, driver: Driver) -> dict[str, str]:
        """Return the options of one of the drivers that hand operations to a runtime."""
        return self.options if driver.name == self.cpu else {}


DEFAULT = Host()


def host_cache_options(
    options: Mapping[str, object], device: str = ""
) -> tuple[str, Host, Cache, dict[str, object]]:
    """Return the device spec, host, cache and driver's options that a user's options mean.

    The device `cpu` with the option `cpu=tflite` is the device `tflite`. Raises OptionError.
    """
    cache, rest = cache_and_options(options)
    named = device.strip() if isinstance(device, str) else ""
    host = _host(rest, named in _runtimes())
    if named == CPU and host.cpu != REFERENCE:
        return host.cpu, DEFAULT, cache, {**rest, **host.options}
    return device, host, cache, rest


def _host(rest: dict[str, object], takes_threads: bool) -> Host:
    """Take the host's options out of the others. Raises OptionError."""
    cpu = _word("cpu", rest.pop("cpu", REFERENCE)) or REFERENCE
    known = [REFERENCE, *_runtimes()] if cpu != REFERENCE else [REFERENCE]
    if cpu not in known:
        raise OptionError(
            f"option cpu: is {shown(cpu)}, must be one of {', '.join(known)}"
            f"{did_you_mean(cpu, known)}"
        )
    if takes_threads or "threads" not in rest:
        return Host(cpu)
    threads = _word("threads", rest.pop("threads"))
    if cpu == REFERENCE:
        raise OptionError(
            "option threads: belongs to the runtime that cpu= names, must be left out with"
            f" cpu={REFERENCE} (the reference has one thread; cpu=tflite uses several)"
        )
    if not (threads.isascii() and threads.isdigit() and int(threads) > 0):
        raise OptionError(f"option threads: is {shown(threads)}, must be a number of at least 1")
    return Host(cpu, threads)


def _word(name: str, given: object) -> str:
    """Return an option as text. Raises OptionError for what is neither text nor number."""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise OptionError(f"option {name}: is {shown(given)}, must be a text or a number")
    return str(given).strip()


def _runtimes() -> list[str]:
    return [driver.name for driver in discover().drivers.values() if driver.runs]


def chain_for(device: Device, graph: Graph, host: Host = DEFAULT) -> tuple[Device, ...]:
    """Return the chain for a graph. Raises OptionError if the host's runtime cannot read its file.

    Without need for a runtime there is none in the chain.
    """
    form = graph.origin.form if graph.origin else ""
    cpus = with_cpu(device)
    _refuse_other_form(graph, device.driver, f"device {device.driver}")
    named = discover().drivers.get(device.driver)
    if named is not None and named.runs:
        _refuse_runtime(f"device {device.driver}")
    if host.cpu != REFERENCE and host.cpu != device.driver:
        _refuse_other_form(graph, host.cpu, f"option cpu={host.cpu}")
        _refuse_runtime(f"option cpu={host.cpu}")
        runtime = discover().drivers[host.cpu]
        return _unique((device, _describe(runtime, host), *cpus, *_fallbacks(form, host)))
    if not form or all(_is_known(op, graph, cpus) for op in graph.ops):
        return cpus
    return _unique((*cpus, *_fallbacks(form, host)))


def _refuse_other_form(graph: Graph, driver: str, what: str) -> None:
    """Raise OptionError if a driver hands operations to a runtime that cannot read this file."""
    known = discover().drivers.get(driver)
    form = graph.origin.form if graph.origin else ""
    if known is not None and known.runs and form and form not in known.runs:
        raise OptionError(
            f"{what}: its runtime reads files of the format {', '.join(known.runs)},"
            f" {graph.name} is {form} (use another, or leave it out)"
        )


def _refuse_runtime(what: str) -> None:
    """Raise OptionError if the model is not trusted, and its limits allow no runtime."""
    if not limits.current().runtimes:
        raise OptionError(
            f"{what}: a runtime reads the file with its own code in this process, must be left out"
            " for a model that is not trusted (limits=teflon.Limits(runtimes=True) allows it)"
        )


def _is_known(op: Op, graph: Graph, cpus: Sequence[Device]) -> bool:
    return not cpus[-1].unsupported(op, graph)


def _fallbacks(form: str, host: Host) -> list[Device]:
    if not limits.current().runtimes:
        return []
    return [_describe(d, host) for d in discover().drivers.values() if form in d.runs]


def _describe(driver: Driver, host: Host) -> Device:
    return guarded(driver).device(driver.chips[0], host.of(driver))


def _unique(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return the devices, of each driver the first one."""
    found: dict[str, Device] = {}
    for device in devices:
        found.setdefault(device.driver, device)
    return tuple(found.values())


def chain_again(device: Device, names: Sequence[str], host: Host = DEFAULT) -> tuple[Device, ...]:
    """Return the chain of a plan that was stored; `names` are its devices' names in messages.

    Raises DriverUnavailable if a driver is not installed here.
    """
    found = [device]
    for name in names[1:]:
        if name == CPU:
            found.append(open_device(CPU)[0])
            continue
        driver = discover().drivers.get(name)
        _refuse_runtime(f"driver {name}")
        if driver is None or not driver.runs:
            raise DriverUnavailable(
                f"driver {name}: is not installed, must be installed to run this compiled model"
            )
        found.append(_describe(driver, host))
    return tuple(found)


def open_fallback(device: Device, host: Host) -> Context:
    """Open one of the devices behind the first. Raises DriverUnavailable without its runtime."""
    if device.driver == CPU:
        return open_device(CPU)[1] or _never()
    driver = discover().drivers[device.driver]
    return guarded(driver).open(Node("", driver.name, device.chip), host.of(driver))


def _never() -> Context:
    raise DriverUnavailable("cpu: cannot be opened")


def check_shapes(shapes: object) -> dict[str, tuple[int, ...]]:
    """Return the argument `shapes`, checked. Raises OptionError."""
    if shapes is None:
        return {}
    if not isinstance(shapes, Mapping):
        raise OptionError(
            f"shapes: is {shown(shapes)}, must map inputs' names to shapes:"
            " {'input': (1, 96, 96, 3)}"
        )
    return {str(name): _shape(str(name), given) for name, given in shapes.items()}


def _shape(name: str, given: object) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(n) for n in given)  # type: ignore[attr-defined]
    except Exception:  # not iterable, no whole numbers; a class of the caller's
        found = (-1,)
    bad = isinstance(given, str | bytes) or not all(1 <= size <= MOST_SIZE for size in found)
    if bad or len(found) > MOST_AXES:
        raise OptionError(
            f"shapes: {name!r} is {shown(given)}, must be whole numbers from 1 to {MOST_SIZE}:"
            " (1, 96, 96, 3)"
        )
    return found
