"""One model on several cores of a chip, each of which runs whole inferences.

The kernel drivers of these NPUs run the jobs of one open file strictly in order, on one core at a
time. So each core gets its own open file, with its own address space and its own copy of the
weights.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity for each file), §10.2 (three cores)

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy.typing as npt

from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Timeline
from teflon.run.inputs import Given
from teflon.run.model import Model
from teflon.run.runner import Outputs, Runner, call_copy
from teflon.run.state import Memory

ALL = "all"


class Pool(Runner):
    """Models of one artefact, one for each core; an inference goes to the least busy core."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Take models of the same artefact; closing the pool closes them.

        Raises OptionError without models.
        """
        if not models:
            raise OptionError("pool: has no models, must have one or more")
        super().__init__(models[0].artefact)
        self.models = tuple(models)

    def __call__(self, *arrays: Given, **named: npt.ArrayLike) -> Outputs:
        given = self.models[0].given(arrays, named)
        future = self.submit(*given)
        try:
            return future.result()
        finally:
            future.cancel()  # does nothing unless the wait was interrupted

    def run(self, *arrays: Given) -> list[Array]:
        return list(self(*arrays).values())

    def infer(self, arrays: Sequence[Given], stream: Hashable, memory: Memory) -> Outputs:
        return self.models[0].infer(arrays, stream, memory)

    @property
    def timeline(self) -> Timeline | None:
        return self.models[0].timeline

    def _servers(self) -> Sequence[Sequence[Callable[..., Outputs]]]:
        return [[partial(call_copy, copy) for copy in model.overlapping()] for model in self.models]

    def _free(self) -> None:
        with ExitStack() as everything:  # closes all, even if one raises
            for model in self.models:
                everything.callback(model.close)


def core_count(cores: int | str, chip: Device) -> int:
    """Return the number of cores that an option names. Raises OptionError if the chip has fewer."""
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


def open_cores(context: Context | None, count: int, owner: ExitStack) -> list[Context | None]:
    """Open a device once for each core; the first context is `context`, which is open already.

    `owner` closes the others. Raises what `Context.again` raises.
    """
    contexts = [context]
    for _ in range(count - 1):
        again = context.again() if context is not None else None
        if again is not None:
            owner.callback(again.close)
        contexts.append(again)
    return contexts
