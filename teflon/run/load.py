"""The steps of `teflon.load`: open the file and the device, compile, load into the cores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from teflon import trace
from teflon.compile.artefact import Artefact
from teflon.compile.artefact_cache import Shapes
from teflon.compile.cache import Cache
from teflon.compile.chain import Host, check_shapes, host_cache_options
from teflon.compile.source import AnyModelFile, compile_model, open_model
from teflon.devices import AUTO, open_device
from teflon.errors import DeviceError, DriverUnavailable, OptionError, did_you_mean, shown
from teflon.inspect import verbose
from teflon.ir.graph import Graph
from teflon.limits import TRUSTED, Limits, limited
from teflon.pipe import Context, Device, Source
from teflon.run.cores import Pool, core_count, open_cores
from teflon.run.model import Model
from teflon.run.runner import Runner

THROUGHPUT = "throughput"
LATENCY = "latency"
MODES = (THROUGHPUT, LATENCY)
"""How several cores share the work: each one runs whole inferences, or each inference is divided
between all of them.
"""


def load(
    model: Source | Graph,
    device: str = AUTO,
    cores: int | str = 1,
    mode: str = THROUGHPUT,
    options: Mapping[str, object] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    limits: Limits = TRUSTED,
) -> Runner:
    """Open a device, compile a model for it once, and load it into the given number of cores.

    model: a path, a file's bytes, or a graph. cores: a number, or `all`. mode: see MODES. shapes:
    new shapes of inputs by name. The option `cache` names the compile cache (see
    `cache.cache_for`), `cpu` and `threads` say who runs what the device leaves (see
    `compile.chain`), all others are the driver's. limits: what the model may cost. Raises what
    `open_model`, `open_device` and compiling raise, OptionError for an unknown mode and for more
    cores than the chip has, DeviceError.
    """
    given = {k: v for k, v in (options or {}).items() if v is not None or k == "cache"}
    _check_options(mode, cores, given)
    wanted = check_shapes(shapes)
    with limited(limits):
        source = model if isinstance(model, Graph) else open_model(model)
        steps = partial(_open_and_load, source, device, cores, mode, given, wanted)
        try:
            return steps()
        except _Stale as stale:
            stale.forget()
        return steps()


class _Stale(Exception):
    """An artefact from the compile cache cannot be loaded; `forget` removes its entries."""

    def __init__(self, forget: Callable[[], None]) -> None:
        self.forget = forget


def _open_and_load(
    source: AnyModelFile | Graph,
    device: str,
    cores: int | str,
    mode: str,
    given: Mapping[str, object],
    wanted: Shapes,
) -> Runner:
    """Do what `load` does after it has opened the model. Raises _Stale for a bad artefact."""
    chip, context, host, cache = open_with_cache(device, given)
    with ExitStack() as owner:
        if context is not None:
            owner.callback(context.close)
        contexts = open_cores(context, core_count(cores, chip), owner)
        if mode == LATENCY and len(contexts) > 1:
            chip, contexts = _combine_cores(chip, contexts, owner)
        artefact = compile_model(source, chip, cache, verbose, host, wanted)
        warn(artefact)
        owner.pop_all()  # `_models` closes the contexts from here on
    try:
        models = _models(artefact, contexts)
    except (DriverUnavailable, DeviceError):  # of a runtime or a device: not the artefact's fault
        raise
    except Exception as error:
        if artefact.forget is None:
            raise
        raise _Stale(artefact.forget) from error
    return models[0] if len(models) == 1 else Pool(models)


def open_with_cache(
    device: str, options: Mapping[str, object]
) -> tuple[Device, Context | None, Host, Cache]:
    """Return the device that a spec names, its context, and what the options say beside it.

    Raises what `open_device` and `host_cache_options` raise.
    """
    spec, host, cache, rest = host_cache_options(options, device)
    with trace.span("open", device=spec):
        chip, context = open_device(spec, rest)
    verbose.show_driver(chip.driver)
    return chip, context, host, cache


def warn(artefact: Artefact) -> None:
    """Log a warning for each thing that the device is known to compute wrong."""
    for doubt in artefact.doubts():
        logging.getLogger("teflon").warning("%s", doubt)


def _check_options(mode: object, cores: int | str, options: Mapping[str, object]) -> None:
    if not isinstance(mode, str) or mode not in MODES:
        raise OptionError(
            f"option mode: is {shown(mode)}, must be one of {', '.join(MODES)}"
            f"{did_you_mean(mode, MODES)}"
        )
    recorded = options.get("record")
    one = isinstance(cores, int | str) and cores in (1, "1")
    if recorded is not None and not (isinstance(recorded, str) and not recorded) and not one:
        raise OptionError(
            f"option record: records one core only, must be left out with cores={shown(cores)}"
        )


def _models(artefact: Artefact, contexts: Sequence[Context | None]) -> list[Model]:
    """Return a model on each context, which the model owns. If one raises, close all contexts."""
    models: list[Model] = []
    unused = list(contexts)
    with ExitStack() as ready:
        ready.callback(_close_all, unused)
        while unused:
            models.append(ready.enter_context(Model(artefact, unused.pop(0))))
        ready.pop_all()
    return models


def _close_all(contexts: Sequence[Context | None]) -> None:
    with ExitStack() as everything:  # closes all, also if one raises
        for context in contexts:
            if context is not None:
                everything.callback(context.close)


def _combine_cores(
    chip: Device, contexts: Sequence[Context | None], owner: ExitStack
) -> tuple[Device, list[Context | None]]:
    """Combine several cores to one device, which divides each inference between them.

    `owner` closes the one device from here on, which closes the cores.
    """
    from teflon.run.multicore.context import MulticoreContext
    from teflon.run.multicore.device import MulticoreDevice

    device = MulticoreDevice(chip, len(contexts))
    real = [context for context in contexts if context is not None]
    if not real:
        return device, [None]
    combined = MulticoreContext(device, real)
    owner.pop_all()
    owner.callback(combined.close)
    return device, [combined]
