"""What the simulated units count of a command list beside what the model of time reads off it."""

from __future__ import annotations

import pytest

from teflon_rocket.chips import RK3588
from teflon_rocket.work import work
from tests.rocket.lists import COMMANDS, Bench, Case, lists

FEW = {
    "CNA__CONV_CON1__NONALIGN_DMA": 1,
    "CNA__CONV_CON1__GROUP_LINE_OFF": 1,
    "CNA__CBUF_CON1__DATA_ENTRIES": 160,
}
CASES = {
    "direct": Case(channels=40, kernels=33),
    "depthwise 48": Case(channels=48, kernels=48, depthwise=True),
    "depthwise 112": Case(channels=112, kernels=112, depthwise=True),
    "deconvolution": Case(spread=(2, 3), kernel=(4, 4), pad=(2, 1, 2, 1), channels=70, kernels=20),
    "depthwise deconvolution": Case(spread=(2, 2), pad=(1, 1, 1, 1), channels=24, depthwise=True),
    "dilation": Case(size=(9, 9), dilation=(2, 3), pad=(2, 3, 2, 3)),
    "one channel": Case(size=(5, 20), channels=1).with_(CNA__CONV_CON1__ARGB_IN=8, **FEW),
    "three channels": Case(size=(5, 20), channels=3).with_(CNA__CONV_CON1__ARGB_IN=10, **FEW),
    "a part": Case(size=(5, 6), channels=20).with_(
        CNA__CONV_CON1__GROUP_LINE_OFF=1,
        CNA__DMA_CON1__LINE_STRIDE=9,
        CNA__DMA_CON2__SURF_STRIDE=100,
    ),
    "one pixel": Case(size=(1, 1), channels=64, kernels=40, kernel=(1, 1)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_both_count_the_same(case: Case) -> None:
    bench = Bench(case)
    words = lists(case)
    bench.load(words)
    seen, told = bench.machine.work(COMMANDS, len(words)), work(words, RK3588, "x")
    assert seen.cycles == told.cycles > 0
    assert (seen.read, seen.written) == (told.read, told.written)
    assert seen.weights + seen.operands == told.coefficients


def test_inserted_elements_take_cycles_but_are_not_read() -> None:
    """A deconvolution of stride 2 is as much work as a convolution of four times the pixels."""
    wide = Case(size=(9, 9), kernel=(2, 2), pad=(1, 1, 0, 0))
    spread = Case(size=(5, 5), kernel=(2, 2), pad=(1, 1, 0, 0), spread=(2, 2))
    words = [lists(case) for case in (wide, spread)]
    plain, deconvolved = (work(w, RK3588, "x") for w in words)
    assert plain.cycles == deconvolved.cycles
    assert plain.read - deconvolved.read == (81 - 25) * 16
