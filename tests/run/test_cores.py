"""Several inferences at a time: right, in order, fair, bounded, on different cores."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import teflon
import teflon_rocket
from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.run.cores import Pool
from teflon.run.queue import FairQueue
from teflon.run.runner import Runner
from teflon.samples.models import resolve
from teflon_rocket.chips import CHIPS
from teflon_rocket.simulator.kernel import RocketKernel

PATH = resolve("digits_int8")


def images(count: int) -> list[Array]:
    random = np.random.default_rng(0)
    return [random.integers(-128, 128, (1, 8, 8, 1), np.int8) for _ in range(count)]


@functools.cache
def one_by_one(device: str) -> list[Array]:
    """What the images give on one core, one after the other."""
    with teflon.load(PATH, device, cache="off") as model:
        return [model.run(image)[0] for image in images(12)]


@pytest.fixture(params=["sim:rk3588 1", "sim:rk3588 3", "sim:a311d 1", "cpu 1"])
def target(request: pytest.FixtureRequest) -> tuple[str, str]:
    device, cores = request.param.split()
    return device, cores


@pytest.fixture
def model(target: tuple[str, str]) -> Iterator[Runner]:
    with teflon.load(PATH, target[0], cores=target[1], cache="off") as opened:
        yield opened


@pytest.fixture
def wanted(target: tuple[str, str]) -> list[Array]:
    return one_by_one(target[0])


def first(outputs: dict[str, Array]) -> Array:
    return next(iter(outputs.values()))


def test_map_keeps_the_order(model: Runner, wanted: list[Array]) -> None:
    np.testing.assert_array_equal([first(o) for o in model.map(images(12))], wanted)
    assert list(model.map([])) == []


def test_map_takes_mappings_and_only_as_many_as_it_has_room_for(model: Runner) -> None:
    taken = []

    def source() -> Iterator[dict[str, Array]]:
        for number, image in enumerate(images(12) * 2):
            taken.append(number)
            yield {model.inputs[0].name: image}

    results = model.map(source())
    next(results)
    assert len(taken) <= 9  # two under way on each of three cores, and one more for each
    cast(Any, results).close()


def test_an_error_of_an_item_comes_in_its_place(model: Runner, wanted: list[Array]) -> None:
    items = images(6)
    items[3] = np.zeros(3, np.int8)
    results = model.map(items)
    np.testing.assert_array_equal([first(next(results)) for _ in range(3)], wanted[:3])
    with pytest.raises(OptionError, match="must be int8"):
        next(results)
    np.testing.assert_array_equal(first(model(images(1)[0])), wanted[0])


def test_async(model: Runner, wanted: list[Array]) -> None:
    async def all_of_them() -> list[dict[str, Array]]:
        return await asyncio.gather(*(model.run_async(image) for image in images(12)))

    found = [first(outputs) for outputs in asyncio.run(all_of_them())]
    np.testing.assert_array_equal(found, wanted)


def test_errors_go_to_the_caller(model: Runner, wanted: list[Array]) -> None:
    wrong = model.submit(np.zeros(3))
    right = model.submit(images(1)[0])
    with pytest.raises(OptionError, match="must be int8"):
        wrong.result()
    np.testing.assert_array_equal(first(right.result()), wanted[0])
    with pytest.raises(OptionError, match="must be int8"):
        model(np.zeros(3))


def test_all_ways_to_call_give_the_same(model: Runner, wanted: list[Array]) -> None:
    image, name = images(1)[0], model.inputs[0].name
    found = [first(model(image)), first(model(**{name: image})), first(model({name: image})),
             model.run(image)[0], first(model.submit({name: image}).result())]  # fmt: skip
    np.testing.assert_array_equal(found, [wanted[0]] * 5)
    assert model.report().as_dict()


def test_calls_start_no_threads() -> None:
    with teflon.load(PATH, "cpu", cache="off") as model:
        before = threading.active_count()
        model(images(1)[0])
        assert threading.active_count() == before
        model.submit(images(1)[0]).result()
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_close_finishes_what_is_queued() -> None:
    model = teflon.load(PATH, "sim:rk3588", cores="all", cache="off")
    futures = [model.submit(image, stream=n) for n, image in enumerate(images(12))]
    model.close()
    model.close()
    np.testing.assert_array_equal([first(f.result()) for f in futures], one_by_one("sim:rk3588"))
    with pytest.raises(OptionError, match=r"the model is closed, must be open$"):
        model.submit(images(1)[0])
    with pytest.raises(OptionError, match=r"the model is closed, must be open$"):
        model(images(1)[0])


def test_a_future_may_close_the_model() -> None:
    model = teflon.load(PATH, "cpu", cache="off")
    closed = threading.Event()

    def close(_future: object) -> None:
        model.close()
        closed.set()

    model.submit(images(1)[0]).add_done_callback(close)
    assert closed.wait(10)


class Held:
    """A server that says whom it served, and waits for leave."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.go, self.begun = threading.Semaphore(0), threading.Event()

    def __call__(self, name: str) -> str:
        self.begun.set()
        assert self.go.acquire(timeout=10)
        self.served.append(name)
        return name

    def let(self, count: int) -> None:
        for _ in range(count):
            self.go.release()


def test_streams_take_turns_and_a_full_one_waits() -> None:
    held = Held()
    queue = FairQueue("m", [[held]], waiting=3)
    queue.put(["first"], stream="a")
    assert held.begun.wait(10)
    for name in ("a1", "a2", "a3"):
        queue.put([name], stream="a")
    queue.put(["b1"], stream="b")
    late = threading.Thread(target=lambda: queue.put(["a4"], stream="a"))
    late.start()
    late.join(0.1)
    assert late.is_alive()  # three wait already
    held.let(6)
    late.join(10)
    assert not late.is_alive()
    queue.close()
    assert held.served == ["first", "a1", "b1", "a2", "a3", "a4"]
    with pytest.raises(OptionError, match=r"^m: the model is closed, must be open$"):
        queue.put(["a5"])


def test_a_request_that_must_not_wait_is_queued_beyond_the_limit() -> None:
    held = Held()
    queue = FairQueue("m", [[held]], waiting=1)
    futures = [queue.put([str(n)], wait=False) for n in range(8)]
    held.let(8)
    assert [f.result(10) for f in futures] == [str(n) for n in range(8)]
    queue.close()


def test_a_request_that_is_cancelled_while_it_waits_never_starts() -> None:
    held = Held()
    queue = FairQueue("m", [[held]])
    running = queue.put(["running"])
    assert held.begun.wait(10)
    waiting, last = queue.put(["waiting"], "a"), queue.put(["last"], "b")
    assert waiting.cancel()
    assert not running.cancel()
    held.let(2)
    queue.close()
    assert held.served == ["running", "last"]
    assert last.result() == "last"


def test_a_cancelled_coroutine_cancels_its_request() -> None:
    held = Held()
    queue = FairQueue("m", [[held]])

    async def wait_for(name: str) -> str:
        return await asyncio.wrap_future(queue.put([name], wait=False))

    async def some() -> str:
        running = asyncio.create_task(wait_for("running"))
        given_up = asyncio.create_task(wait_for("given up"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        held.let(1)
        return await running

    assert asyncio.run(some()) == "running"
    queue.close()
    assert held.served == ["running"]


def test_requests_go_to_the_least_busy_core() -> None:
    servers = [Held(), Held(), Held()]
    queue = FairQueue("m", [[server, Held()] for server in servers])
    futures = [queue.put([str(n)], wait=False) for n in range(3)]
    for server in servers:
        assert server.begun.wait(10)  # each has one, though there are two for each core
    for server in servers:
        server.let(1)
    assert sorted(f.result(10) for f in futures) == ["0", "1", "2"]
    queue.close()


@pytest.mark.parametrize(
    ("device", "cores", "text"),
    [
        ("sim:rk3588", 2.5, "is 2.5, must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:rk3588", None, "is None, must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:rk3588", "", "is '', must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:rk3588", 4, "is 4, must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:rk3588", 0, "is 0, must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:rk3588", "two", "is two, must be 1 to 3 or all (rk3588 has 3 cores)"),
        ("sim:a311d", 2, "is 2, must be 1 or all (a311d has one core)"),
        ("cpu", 2, "is 2, must be 1 or all (cpu has one core)"),
    ],
)
def test_more_cores_than_there_are(device: str, cores: int | str, text: str) -> None:
    with pytest.raises(OptionError, match=f"^{re.escape('option cores: ' + text)}$"):
        teflon.load(PATH, device, cores=cores)


def test_wrong_pools_and_options_are_refused(tmp_path: Path) -> None:
    wanted = r"^option mode: is 'troughput', must be one of throughput.* \(did you mean throughput"
    with pytest.raises(OptionError, match=wanted):
        teflon.load(PATH, "cpu", mode="troughput")
    with pytest.raises(OptionError, match="pool: has no models"):
        Pool([])
    with pytest.raises(OptionError, match=r"^option record: records one core only"):
        teflon.load(PATH, "sim:rk3588", cores=2, record=tmp_path / "r.npz")
    assert not (tmp_path / "r.npz").exists()


def test_three_files_run_on_three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel, three files: at no time two jobs on a core, and all cores at work."""
    kernels: list[RocketKernel] = []
    want = one_by_one("sim:rk3588")  # before the patch: it opens a kernel of its own

    def kernel(chip: str, _options: object, *, strict: bool) -> RocketKernel:
        kernels.append(RocketKernel(CHIPS[chip], strict=strict))
        return kernels[-1]

    monkeypatch.setattr(teflon_rocket, "_kernel", kernel)
    with teflon.load(PATH, "sim:rk3588", cores=3, cache="off") as model:
        np.testing.assert_array_equal([first(o) for o in model.map(images(12))], want)
    assert [k.complaints for k in kernels] == [[]]
    assert kernels[0].schedule().problems() == []
    created = [e for e in kernels[0].log if e["ioctl"] == "CREATE_BO"]
    assert created
    assert len(created) % 3 == 0  # each core has buffers of its own


def buffers(kernel: RocketKernel) -> int:
    return sum(entry["ioctl"] == "CREATE_BO" for entry in kernel.log)


def test_queued_inferences_use_two_sets_of_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is made when it is needed, and freed with the model."""
    kernel = RocketKernel(CHIPS["rk3588"], strict=True)
    monkeypatch.setattr(teflon_rocket, "_kernel", lambda *_, **__: kernel)
    with teflon.load(PATH, "sim:rk3588", cache="off") as model:
        one = buffers(kernel)
        model(images(1)[0])
        assert buffers(kernel) == one
        for _ in range(2):
            assert len(list(model.map(images(3)))) == 3
            assert buffers(kernel) == 2 * one
    assert sum(entry["ioctl"] == "GEM_CLOSE" for entry in kernel.log) == 2 * one


@pytest.mark.parametrize("mode", ["throughput", "latency"])
@pytest.mark.parametrize("fails", ["again", "load", "compile"])
def test_each_core_is_closed_once_where_loading_fails(
    mode: str, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in the middle: opening the third core, uploading to the second, compiling."""
    from teflon_rocket.context import RocketContext
    from teflon_rocket.device import RocketDevice

    closed: list[RocketContext] = []
    calls = iter(range(100))
    fine = {"again": 1, "load": int(mode != "latency"), "compile": 0}[fails]
    owner = RocketDevice if fails == "compile" else RocketContext
    real, close = getattr(owner, fails), RocketContext.close

    def failing(self: Any, *arguments: Any) -> Any:
        if next(calls) >= fine:
            raise RuntimeError("it fails")
        return real(self, *arguments)

    def counted(self: RocketContext) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(owner, fails, failing)
    monkeypatch.setattr(RocketContext, "close", counted)
    path = resolve("digits_int8")
    with pytest.raises(RuntimeError, match="it fails"):
        teflon.load(path, "sim:rk3588", cores=3, mode=mode, cache="off")
    assert len(closed) == len({id(context) for context in closed})
    assert len(closed) == (2 if fails == "again" else 3)
