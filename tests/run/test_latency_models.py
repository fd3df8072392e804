"""Whole models in mode latency: the bits of one core, less time, jobs on three cores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import latency
import teflon
from teflon.compile.cache import Cache
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import DriverUnavailable
from teflon.ir.types import Array
from teflon.run.cores import Pool
from teflon.run.model import Model
from teflon.run.multicore.context import MulticoreContext
from teflon.run.multicore.program import MulticoreProgram
from teflon.run.runner import Runner
from teflon.samples.models import resolve
from teflon.timing.schedule import Schedule
from teflon_rocket.context import RocketContext
from tests.paths import MODELS, ROOT, needs_shared
from tests.rocket.times import schedule_of

PUBLIC = {
    "mobilenet_v1": "mobilenet_v1_1.0_224_quant",
    "mobiledet": "ssdlite_mobiledet_coco_qat_postprocess",
    "yolox": "yolox",
}


def pictures(model: Runner) -> list[Array]:
    random = np.random.default_rng(1)
    found = []
    for info in model.inputs:
        limits = np.iinfo(info.dtype)
        found.append(random.integers(limits.min, limits.max + 1, info.shape, info.dtype))
    return found


def schedule(model: Runner) -> Schedule:
    """What the simulated chip did for a model."""
    assert isinstance(model, Model)
    context = model._contexts[0]
    first = context.contexts[0] if isinstance(context, MulticoreContext) else context
    assert isinstance(first, RocketContext)
    return schedule_of(first)


def path_of(name: str) -> Path:
    assert MODELS is not None
    return MODELS / f"{PUBLIC[name]}.tflite"


@needs_shared
@pytest.mark.parametrize("name", PUBLIC)
def test_three_cores_give_the_bits_of_one(name: str) -> None:
    with teflon.load(path_of(name), "sim:rk3588", cache="off") as one:
        inputs = pictures(one)
        wanted = one.run(*inputs)
        alone = schedule(one)
    with teflon.load(path_of(name), "sim:rk3588", cores=3, mode="latency", cache="off") as model:
        for found, array in zip(model.run(*inputs), wanted, strict=True):
            np.testing.assert_array_equal(found, array)
        done = schedule(model)
    assert done.problems() == []
    assert min(done.busy()) > 0.3 * max(done.busy()) > 0
    assert done.end < 0.65 * alone.end, "on the chip alone, without the host"


@needs_shared
def test_several_inferences_may_wait_for_the_cores() -> None:
    path = path_of("mobilenet_v1")
    random = np.random.default_rng(2)
    images = [random.integers(0, 256, (1, 224, 224, 3), np.uint8) for _ in range(4)]
    with teflon.load(path, "sim:rk3588", cache="off") as one:
        wanted = [one.run(image)[0] for image in images]
    with teflon.load(path, "sim:rk3588", cores=3, mode="latency", cache="off") as model:
        found = [next(iter(outputs.values())) for outputs in model.map(images)]
        assert schedule(model).problems() == []
    np.testing.assert_array_equal(found, wanted)


@needs_shared
def test_programs_in_stages_come_from_the_cache(tmp_path: Path) -> None:
    def load(cores: int) -> tuple[list[Array], str]:
        with teflon.load(
            path_of("mobilenet_v1"), "sim:rk3588", cores=cores, mode="latency", cache=str(tmp_path)
        ) as model:
            return model.run(*pictures(model)), str(model.report())

    first, report = load(3)
    entries = {entry.path for entry in Cache(tmp_path).entries()}
    again, same = load(3)
    assert report == same
    assert {entry.path for entry in Cache(tmp_path).entries()} == entries
    np.testing.assert_array_equal(again[0], first[0])
    assert "stages on 3 cores" in report
    assert "stage 0: rows on 3 cores" in report
    other = load(1)[1]
    assert "stage" not in other


def test_a_small_model_stays_on_one_core_and_the_report_says_so() -> None:
    with teflon.load(
        resolve("digits_int8"), "sim:rk3588", cores="all", mode="latency", cache="off"
    ) as model:
        assert isinstance(model, Model)
        programs = [p for p in model.programs if isinstance(p, MulticoreProgram)]
        assert [p.cores for p in programs] == [1] * len(programs)
        assert "no stages are faster" in str(model.report())
        said = [part["remarks"] for part in model.report().as_dict()["partitions"]]
        assert any("1 stage on 1 core" in remark for remarks in said for remark in remarks)
        inputs = pictures(model)
        found = model.run(*inputs)
    with teflon.load(resolve("digits_int8"), "sim:rk3588", cache="off") as one:
        np.testing.assert_array_equal(found[0], one.run(*inputs)[0])


def test_a_model_compiled_for_one_core_runs_on_one(tmp_path: Path) -> None:
    from teflon.cli import main

    path = tmp_path / "digits.teflon"
    assert main(["compile", "digits_int8", "--device", "rk3588", "-o", str(path)]) == 0
    with teflon.load(path, "sim:rk3588", cores=3, mode="latency") as model:
        assert "it was compiled for one core" in str(model.report())
        model.run(*pictures(model))


def test_a_description_compiles_and_does_not_run() -> None:
    with teflon.load(resolve("digits_int8"), "rk3588", cores=3, mode="latency") as model:
        assert not isinstance(model, Pool)
        with pytest.raises(DriverUnavailable, match=r"can only compile"):
            model.run(*pictures(model))


TITLES = {"MobileNetV1": "mobilenet_v1", "MobileDet": "mobiledet", "YOLOX": "yolox"}


@needs_shared
def test_the_page_has_the_figures_of_the_benchmark() -> None:
    """Within five per cent: docs/cores.md is to be renewed when they move."""
    page = (ROOT / "docs" / "cores.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| ([23]) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|", page, re.M)
    assert len(rows) == 2 * len(TITLES)
    device = open_device("rk3588", {})[0]
    for title, cores, *figures in rows:
        graph = read_graph(path_of(TITLES[title]))
        found = latency.row(title, graph, device, int(cores))
        names = ("one core ms", "divided ms", "times as fast", "one rate ms")
        assert [found[name] for name in names] == pytest.approx([*map(float, figures)], rel=0.05)
