"""What the simulated machine keeps from task to task, and when it must read anew."""

from unittest.mock import Mock

import numpy as np
import pytest

from teflon_rocket.simulator import weights
from teflon_rocket.simulator.convolution import engine
from teflon_rocket.simulator.convolution.task import ConvolutionTask
from tests.rocket.lists import COMMANDS, OPERAND, WEIGHTS, Bench, Case, lists, pack_weights


def test_weights_stay_for_the_next_task() -> None:
    case = Case()
    bench = Bench(case)
    first = bench.run()
    again = bench.run(lists(case.with_(CNA__CBUF_CON0__WEIGHT_REUSE=1)))
    np.testing.assert_array_equal(first, again)


def test_changed_weights_are_read_again() -> None:
    bench = Bench(Case())
    bench.run()
    bench.w[3, 1, 1, 2] = -bench.w[3, 1, 1, 2] // 2 - 1
    view = bench.memory.view(WEIGHTS, bench.w.size, "test")
    view[:] = np.frombuffer(bench.w.transpose(1, 2, 0, 3).astype(np.int8).tobytes(), np.uint8)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def test_weights_are_decoded_once_as_long_as_nobody_writes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode = Mock(wraps=weights.fetch_weights)
    monkeypatch.setattr(engine, "fetch_weights", decode)
    bench = Bench(Case())
    for _ in range(3):
        np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))
    assert decode.call_count == 1
    bench.w[-1, 0, 0, -1] ^= 1
    bench.memory.view(WEIGHTS, bench.w.size, "test")[:] = np.frombuffer(
        pack_weights(bench.w, False), np.uint8
    )
    for _ in range(3):
        np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))
    assert decode.call_count == 2


def test_counts() -> None:
    bench = Bench(Case(size=(5, 6), pad=(1, 1, 1, 1)))
    bench.run()
    assert (bench.machine.tasks, bench.machine.macs) == (1, 5 * 6 * 9 * 16 * 16)


def test_tasks_on_the_same_list_need_no_second_decoding() -> None:
    bench = Bench(Case(operand=True))
    bench.run()
    once = bench.machine.decode(COMMANDS, bench.count)
    assert bench.machine.decode(COMMANDS, bench.count) is once
    assert isinstance(once, ConvolutionTask)
    assert once.rdma.operand is not None
    assert once.rdma.operand.address == OPERAND
