"""Damaged command lists run or are refused; nothing else may happen."""

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon_rocket.simulator.policy import LENIENT, STRICT
from tests.rocket.lists import Bench, Case, lists
from tests.rocket.pass_lists import COMMANDS, PassBench, PassCase, pass_list


def outcome(bench: Bench, words: list[int]) -> str:
    """The text of the fault, or that it ran."""
    try:
        bench.run(words, "task 7")
    except SimulatorFault as fault:
        return str(fault)
    return "task 7: ran"


@settings(max_examples=300)
@given(st.data())
def test_damaged_lists_run_or_are_refused_and_nothing_else(data: st.DataObject) -> None:
    """Any bits may flip: what comes is a result or a SimulatorFault that names the task."""
    case = data.draw(
        st.sampled_from([Case(), Case(depthwise=True, pad=(1, 1, 1, 1)), Case(operand=True)])
    )
    words = lists(case)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(words) - 1))
        words[index] ^= 1 << data.draw(st.integers(0, 63))
    policy = data.draw(st.sampled_from([STRICT, LENIENT]))
    assert outcome(Bench(case, policy), words).startswith("task 7: ")


PASSES = [
    PassCase(),
    PassCase(other="pixel"),
    PassCase(other="channel", bs_use=4),
    PassCase((3, 2), 1, repeat=2),
    PassCase((4, 1), 4, wide=2),
]


@settings(max_examples=300)
@given(st.data())
def test_damaged_passes_run_or_are_refused_and_nothing_else(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(PASSES))
    words = pass_list(case)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(words) - 1))
        words[index] ^= 1 << data.draw(st.integers(0, 63))
    bench = PassBench(case, data.draw(st.sampled_from([STRICT, LENIENT])))
    with contextlib.suppress(SimulatorFault):
        bench.execute(words)
    bench.memory.map(COMMANDS, np.array(words, "<u8").view(np.uint8), "commands")
    with contextlib.suppress(SimulatorFault):
        bench.machine.work(COMMANDS, len(words))


@given(st.binary(min_size=8, max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    words = np.frombuffer(noise[: len(noise) // 8 * 8], "<u8").tolist()
    assert outcome(Bench(Case(size=(3, 3))), words).startswith(("task 7: word", "task 7: PC"))
