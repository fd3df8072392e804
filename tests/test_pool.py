"""Several inferences at a time: right, in order, fair, bounded, on different cores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

import teflon
from teflon.cache import configured
from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.loading import load_graph
from teflon.models import resolve
from teflon.pool import Pool
from teflon.runtime import Model
from teflon_common.fake_drm import FakeWinsys
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.device import RocketDevice
from teflon_rocket.simulator.kernel import RocketKernel

PATH = resolve("digits_int8")


def images(count: int) -> list[Array]:
    random = np.random.default_rng(0)
    return [random.integers(-128, 128, (1, 8, 8, 1), np.int8) for _ in range(count)]


@pytest.fixture(scope="module")
def wanted() -> list[Array]:
    with teflon.load(PATH, "sim:rk3588", cache="off") as model:
        return [model.run(image)[0] for image in images(12)]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool.load(PATH, "sim:rk3588", cores=3, cache="off") as opened:
        yield opened


def test_map_keeps_the_order(pool: Pool, wanted: list[Array]) -> None:
    found = [next(iter(outputs.values())) for outputs in pool.map(images(12))]
    np.testing.assert_array_equal(found, wanted)


def test_map_takes_no_more_than_it_has_room_for(pool: Pool) -> None:
    taken = []

    def source() -> Iterator[Array]:
        for number, image in enumerate(images(12) * 2):
            taken.append(number)
            yield image

    results = pool.map(source())
    next(results)
    assert len(taken) <= 6
    cast(Any, results).close()


def test_async(pool: Pool, wanted: list[Array]) -> None:
    async def all_of_them() -> list[dict[str, Array]]:
        return await asyncio.gather(*(pool.run_async(image) for image in images(12)))

    found = [next(iter(outputs.values())) for outputs in asyncio.run(all_of_them())]
    np.testing.assert_array_equal(found, wanted)


def test_errors_belong_to_who_asked(pool: Pool, wanted: list[Array]) -> None:
    wrong = pool.submit(np.zeros(3))
    right = pool.submit(images(1)[0])
    with pytest.raises(OptionError, match="must be int8"):
        wrong.result()
    np.testing.assert_array_equal(next(iter(right.result().values())), wanted[0])


class Held:
    """A model that says whom it served, and waits for leave."""

    inputs = outputs = ()

    def __init__(self) -> None:
        self.served: list[str] = []
        self.go, self.begun = threading.Semaphore(0), threading.Event()

    def __call__(self, name: str) -> dict[str, Array]:
        self.begun.set()
        assert self.go.acquire(timeout=10)
        self.served.append(name)
        return {}

    def close(self) -> None:
        """Nothing is open."""


def test_streams_take_turns_and_a_full_one_waits() -> None:
    held = Held()
    pool = Pool([cast(Model, held)], waiting=3)
    pool.submit(cast(Any, "first"), stream="a")
    assert held.begun.wait(10)
    for name in ("a1", "a2", "a3"):
        pool.submit(cast(Any, name), stream="a")
    pool.submit(cast(Any, "b1"), stream="b")
    late = threading.Thread(target=lambda: pool.submit(cast(Any, "a4"), stream="a"))
    late.start()
    late.join(0.1)
    assert late.is_alive()  # three wait already
    for _ in range(6):
        held.go.release()
    late.join(10)
    assert not late.is_alive()
    pool.close()
    assert held.served == ["first", "a1", "b1", "a2", "a3", "a4"]
    with pytest.raises(OptionError, match=r"^pool: is closed, must be open$"):
        pool.submit(cast(Any, "a5"))


def test_what_it_cannot_be() -> None:
    with pytest.raises(OptionError, match="option cores: is 0"):
        Pool.load(PATH, "sim:rk3588", cores=0)
    with pytest.raises(OptionError, match="pool: has 0 models"):
        Pool([])


def test_three_files_run_on_three_cores(wanted: list[Array]) -> None:
    """One kernel, three files: at no time two jobs on a core, and all cores at work."""
    kernel = RocketKernel(RK3588)
    device, graph = RocketDevice("rk3588"), load_graph(PATH)
    contexts = [RocketContext(device, FakeWinsys(kernel)) for _ in range(3)]
    models = [Model.on(graph, device, context, configured("off")) for context in contexts]
    with Pool(models) as pool:
        found = [next(iter(o.values())) for o in pool.map(images(12))]
    np.testing.assert_array_equal(found, wanted)
    assert kernel.complaints == []
    for context in contexts:
        context.close()
