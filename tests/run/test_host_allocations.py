"""An inference allocates nothing on the host: conversions write in place, outputs come again."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import host_time
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.devices import open_device
from teflon.ir import Array, Graph
from teflon.ir.builder import Builder
from teflon.run.model import Model
from teflon_common.context import LoadedProgram

SIDE, CHANNELS = 64, 24
BYTES = SIDE * SIDE * CHANNELS
"""Of the input, and of the output."""

OBJECTS = 6000
"""Bytes of small objects (views, fences, frames) that an inference may have at a time."""


def graph() -> Graph:
    b = Builder("one")
    x = b.input("x", "u8", (1, SIDE, SIDE, CHANNELS), scale=0.5, zero_point=128)
    weights = np.random.default_rng(0).integers(0, 256, (CHANNELS, 1, 1, CHANNELS), np.uint8)
    b.output(b.conv2d(x, weights, np.zeros(CHANNELS, np.int32)))
    return b.build()


@pytest.fixture(params=["rk3588", "a311d", "imx8mp"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """A model on a kernel that says yes to everything, all of it on the device."""
    device = open_device(request.param)[0]
    artefact = compile_graph(graph(), device, NONE)
    with Model(artefact, host_time.idle(device)) as loaded:
        assert [part.device for part in loaded.plan.partitions] == [0]
        for executable in loaded._executables:
            assert isinstance(executable, LoadedProgram)
            host_time.trusting(executable)
        yield loaded


def measured(run: Callable[[], object]) -> tuple[int, int]:
    """Return the bytes that are still allocated after a call, and the peak during it."""
    gc.collect()
    gc.disable()  # a collection would empty those lists
    tracemalloc.start()
    try:
        for _ in range(200):  # the interpreter keeps some objects of each size for later
            run()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            run()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    return after - before, peak - before


def test_an_inference_allocates_small_objects_only(model: Model) -> None:
    image = np.zeros(model.inputs[0].shape, np.uint8)
    left, most = measured(lambda: model(image))
    assert left < OBJECTS / 10  # of 20 inferences
    assert most < OBJECTS < BYTES / 10


def test_outputs_that_are_kept_are_new(model: Model) -> None:
    image = np.zeros(model.inputs[0].shape, np.uint8)
    held = [model.run(image)[0] for _ in range(4)]
    assert len({array.__array_interface__["data"][0] for array in held}) == 4


def test_the_measure_sees_arrays() -> None:
    kept: list[Array] = []
    left, most = measured(lambda: kept.append(np.empty(BYTES, np.uint8)))
    assert left > 19 * BYTES
    assert most >= left
