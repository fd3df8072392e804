"""One model on the cores of a chip: which core runs an inference, and how `teflon.load` chooses.

The kernels of these NPUs run what one open file submits strictly in order, on one core at a time.
So each core gets an executable of its own: own file, own address space, own weights.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity for each file), §10.2 (three cores)

from __future__ import annotations

import contextlib
import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType

import numpy.typing as npt

from teflon.compile.cache import Cache
from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Timeline
from teflon.run.model import Model, Preparer, opened
from teflon.run.runner import Given, Outputs, Runner, instead

ALL = "all"
THROUGHPUT = "throughput"
LATENCY = "latency"


class Pool(Runner):
    """Models that are alike, one for each core; an inference goes to the least busy one."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Take models of the same graph, which the pool closes with itself.

        Raises OptionError without models.
        """
        super().__init__()
        if not models:
            raise OptionError("pool: has no models, must have one or more")
        self.models = tuple(models)
        first = models[0]
        self.plan, self.programs, self.graph = first.plan, first.programs, first.graph
        self.inputs, self.outputs = first.inputs, first.outputs

    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        given = self.models[0].given(arrays, named)
        return self.submit(*given).result()

    def run(self, *arrays: Given) -> list[Array]:
        return list(self(*arrays).values())

    @property
    def timeline(self) -> Timeline | None:
        return self.models[0].timeline

    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        return [[partial(instead, one) for one in model.overlapping()] for model in self.models]

    def _free(self) -> None:
        with ExitStack() as everything:  # closes all, also where one raises
            for model in self.models:
                everything.callback(model.close)


def load(
    model: Preparer, device: str, cores: int | str, mode: str, options: Mapping[str, object]
) -> Runner:
    """Open a device, compile a model for it once, and upload it to as many cores as are asked for.

    cores: a number, or `all`. mode: see MODES. Raises what `runtime.opened` raises, OptionError
    for a mode that there is none of and cores that the chip has not.
    """
    if not isinstance(mode, str) or mode not in MODES:
        near = difflib.get_close_matches(str(mode), MODES, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise OptionError(f"option mode: is {mode!r}, must be one of {', '.join(MODES)}{hint}")
    if options.get("record") and cores not in (1, "1"):
        raise OptionError(
            f"option record: keeps what one core is given, must be left out with cores={cores}"
        )
    chip, context, cache = opened(device, options)
    try:
        count = core_count(cores, chip)
    except BaseException:
        if context is not None:
            context.close()
        raise
    if count == 1:
        return Model.on(model, chip, context, cache, owned=True)
    return MODES[mode](model, chip, context, cache, count)


def core_count(cores: int | str, chip: Device) -> int:
    """Return how many cores are meant. Raises OptionError where the chip has not as many."""
    wanted = chip.cores if cores == ALL else cores
    with contextlib.suppress(ValueError, TypeError):
        count = int(wanted) if isinstance(wanted, str) else operator.index(wanted)
        if 1 <= count <= chip.cores:
            return count
    numbers = f"1 to {chip.cores}" if chip.cores > 1 else "1"
    have = f"{chip.cores} cores" if chip.cores > 1 else "one core"
    given = cores or repr(cores)
    raise OptionError(
        f"option cores: is {given}, must be {numbers} or {ALL} ({chip.chip} has {have})"
    )


def _throughput(
    model: Preparer, chip: Device, context: Context | None, cache: Cache, cores: int
) -> Runner:
    """Return a pool: each core runs whole inferences."""
    with ExitStack() as ready:
        first = ready.enter_context(Model.on(model, chip, context, cache, owned=True))
        others = []
        for _ in range(cores - 1):
            again = context.again() if context is not None else None
            others.append(ready.enter_context(first.again(again)))
        pool = Pool([first, *others])
        ready.pop_all()
    return pool


def _latency(
    model: Preparer, chip: Device, context: Context | None, cache: Cache, cores: int
) -> Runner:
    """Return a model whose inferences are split over the cores, where that pays."""
    from teflon.run.multicore.context import SplitContext
    from teflon.run.multicore.device import SplitDevice

    split = SplitDevice(chip, cores)
    if context is None:
        return Model.on(model, split, None, cache, owned=True)
    with ExitStack() as opened:
        opened.callback(context.close)
        contexts = [context]
        for _ in range(cores - 1):
            contexts.append(context.again())
            opened.callback(contexts[-1].close)
        opened.pop_all()
    return Model.on(model, split, SplitContext(split, contexts), cache, owned=True)


MODES: Mapping[str, Callable[[Preparer, Device, Context | None, Cache, int], Runner]] = (
    MappingProxyType({THROUGHPUT: _throughput, LATENCY: _latency})
)
"""How several cores are used: a function that takes over the opened device (None for a mere
description) and closes it where it raises. One core is a `Model` whatever the mode.
"""
