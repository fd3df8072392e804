"""Operations are compiled several at a time; results and errors come in their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from teflon.errors import EncodingError
from teflon_etnaviv.chips import Chip, chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.emission import compiled
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tensors import Tensor
from teflon_etnaviv.tp.operation import TP

TENSOR = Tensor("x", (1, 1, 1, 1), np.float32(1), 0, signed=False)


@dataclass(frozen=True, eq=False)
class Numbered(TP):
    """A job that carries a number; some cannot be expressed."""

    number: int
    fits: bool = True

    def compile(self, chip: Chip) -> Compiled:
        if not self.fits:
            raise EncodingError(f"number is {self.number}, must be another", where=self.name)
        return Compiled((Job(TPInstruction(in_image_x_size=self.number)),))


def work(*unfit: int) -> list[Numbered]:
    return [
        Numbered(f"op {n}", (TENSOR,), (TENSOR,), number=n, fits=n not in unfit) for n in range(40)
    ]


def test_each_operation_gets_its_own_result() -> None:
    ops = work()
    done = compiled(ops, chip("a311d"))
    assert [op for op, _ in done] == ops
    found = [one.jobs[0].instruction for _, one in done]
    assert found == [TPInstruction(in_image_x_size=n) for n in range(40)]


@pytest.mark.parametrize("unfit", [(0,), (39,), (3, 17), (38, 39)])
def test_the_first_operation_that_does_not_fit_is_named(unfit: tuple[int, ...]) -> None:
    with pytest.raises(
        EncodingError, match=f"^op {unfit[0]}: number is {unfit[0]}, must be another$"
    ):
        compiled(work(*unfit), chip("a311d"))


def test_no_operation_is_no_work() -> None:
    assert compiled([], chip("a311d")) == []
