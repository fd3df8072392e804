"""One model on the cores of a chip: which core runs an inference.

The kernels of these NPUs run what one open file submits strictly in order, on one core at a time.
So each core gets an executable of its own: own file, own address space, own weights.
"""

# Ref: docs/hardware/rocket.md §1.6 (one scheduler entity for each file), §10.2 (three cores)

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy.typing as npt

from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Timeline
from teflon.run.inputs import Given
from teflon.run.model import Model
from teflon.run.runner import Outputs, Runner, instead

ALL = "all"


class Pool(Runner):
    """Models of one artefact, one for each core; an inference goes to the least busy one."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Take models of the same artefact, which the pool closes with itself.

        Raises OptionError without models.
        """
        if not models:
            raise OptionError("pool: has no models, must have one or more")
        super().__init__(models[0].artefact)
        self.models = tuple(models)

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


def open_cores(context: Context | None, count: int, owner: ExitStack) -> list[Context | None]:
    """Return a device opened once for each core: `context` first, which is open already.

    `owner` closes the others. Raises what `Context.again` raises.
    """
    contexts = [context]
    for _ in range(count - 1):
        again = context.again() if context is not None else None
        if again is not None:
            owner.callback(again.close)
        contexts.append(again)
    return contexts
