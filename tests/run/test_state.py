"""States of a loaded model: each stream its own, in order, reset, untouched by a failure."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import OptionError
from teflon.ir import Array, DType, Graph, State, TensorType, Value, ops
from teflon.ir.types import Quantization
from teflon.run.cores import Pool
from teflon.run.load import load
from teflon.run.model import Model
from teflon.run.runner import Runner
from teflon.run.state import Memory

SIZE = 16


def counter() -> Graph:
    """Return a model that adds its input to what it has kept, and returns the sum."""
    kind = TensorType(DType.INT8, (1, 1, 1, SIZE), Quantization.per_tensor(1.0))
    x, old, new = Value("x", kind), Value("old", kind), Value("new", kind)
    add = ops.Add(a=x, b=old, output=new)
    initial = np.full((1, 1, 1, SIZE), 3, np.int8)
    graph = Graph("counter", (x, old), (new, new), (add,), states=(State("sum", initial),))
    return graph.verify()


def step(value: int) -> Array:
    return np.full((1, 1, 1, SIZE), value, np.int8)


def value_of(outputs: dict[str, Array]) -> int:
    (array,) = outputs.values()
    assert len(set(array.reshape(-1).tolist())) == 1
    return int(array.reshape(-1)[0])


@pytest.fixture(params=["cpu", "sim:rk3588", "sim:a311d"])
def model(request: pytest.FixtureRequest) -> Iterator[Runner]:
    with load(counter(), request.param, options={"cache": "off"}) as made:
        yield made


def test_users_see_no_states(model: Runner) -> None:
    assert [i.name for i in model.inputs] == ["x"]
    assert len(model.outputs) == 1
    with pytest.raises(OptionError, match="2 arrays given, must be 1"):
        model(step(1), step(1))


def test_states_go_on_until_they_are_reset(model: Runner) -> None:
    assert [value_of(model(step(n))) for n in (1, 2, 4)] == [4, 6, 10]
    model.reset_state()
    assert value_of(model(step(1))) == 4


def test_the_callers_array_is_not_the_state() -> None:
    with load(counter(), "cpu", options={"cache": "off"}) as model:
        outputs = model(step(1))
        for array in outputs.values():
            array[:] = 100
        assert value_of(model(step(1))) == 5


def test_each_stream_has_its_own(model: Runner) -> None:
    wanted: dict[str, list[int]] = defaultdict(list)
    futures: dict[str, list[object]] = defaultdict(list)
    chosen = random.Random(1)
    sums = dict.fromkeys("abc", 3)
    for _ in range(30):
        stream, number = chosen.choice("abc"), chosen.randrange(-3, 4)
        sums[stream] += number
        wanted[stream].append(sums[stream])
        futures[stream].append(model.submit(step(number), stream=stream))
    found = {s: [value_of(f.result()) for f in row] for s, row in futures.items()}  # type: ignore[attr-defined]
    assert found == dict(wanted)
    model.reset_state("a")
    assert value_of(model.submit(step(1), stream="a").result()) == 4
    assert value_of(model.submit(step(0), stream="b").result()) == sums["b"]


def test_a_pool_keeps_the_state_whichever_core_runs() -> None:
    with load(counter(), "sim:rk3588", cores=3, options={"cache": "off"}) as pool:
        assert isinstance(pool, Pool)
        streams = [pool.map([step(1)] * 12, stream=name) for name in range(3)]
        rows = list(zip(*streams, strict=True))
        assert [value_of(row[0]) for row in rows] == list(range(4, 16))
        assert all(value_of(out) == value_of(row[0]) for row in rows for out in row)


def test_a_failed_inference_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with load(counter(), "cpu", options={"cache": "off"}) as model:
        assert value_of(model(step(1))) == 4

        def fail(*_: object) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as broken:
            broken.setattr(Model, "_invoke", fail)
            with pytest.raises(RuntimeError, match="broken"):
                model(step(1))
        assert value_of(model(step(1))) == 5


def test_threads_that_call_at_once_lose_nothing() -> None:
    with load(counter(), "cpu", options={"cache": "off"}) as model:
        threads = [
            threading.Thread(target=lambda: [model(step(1)) for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert value_of(model(step(0))) == 43


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=30))
def test_memory_is_a_counter_for_each_stream(calls: list[tuple[int, bool, bool]]) -> None:
    memory = Memory([State("n", np.zeros((), np.int64))])
    wanted: dict[int, int] = defaultdict(int)
    for stream, resets, fails in calls:
        if resets:
            memory.reset(stream)
            wanted[stream] = 0
        try:
            with memory.turn(stream) as content:
                content[0] = content[0] + 1
                if fails:
                    raise ValueError
        except ValueError:
            continue
        wanted[stream] += 1
    for stream, number in wanted.items():
        with memory.turn(stream) as content:
            assert int(content[0]) == number


def test_a_reset_while_an_inference_runs_wins() -> None:
    memory = Memory([State("n", np.zeros((), np.int64))])
    with memory.turn("s") as content:
        content[0] = np.ones((), np.int64)
        memory.reset()
    with memory.turn("s") as content:
        assert int(content[0]) == 0
