"""A model as users have it: inputs, outputs, calls, refusals, reports, threads, closing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import devices
from teflon.compile.cache import Cache
from teflon.compile.partition import partition
from teflon.compile.planning import compile_plan, plan_model
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import (
    DriverFault,
    DriverUnavailable,
    EncodingError,
    ModelError,
    OptionError,
    UnsupportedOperation,
)
from teflon.inspect.report import Report
from teflon.ir import Graph
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.text import parse, to_text
from teflon.pipe import Driver, Node, Option, Program
from teflon.plugins import Registry
from teflon.run.load import load
from teflon.run.runner import Runner
from tests.contract.helpers import FakeDevice, FakeDriver, chain, wired
from tests.ir.helpers import SAMPLES, differences, opaque_graph, random_inputs, sample
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared

FILES = sorted(MODELS.glob("*.tflite")) if MODELS else []
X = np.array([1, 2, 3, 255], np.uint8)
Fake = Callable[..., FakeDriver]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Install a fake NPU driver beside a fake CPU that takes kinds n and c."""

    def install(**behaviour: Any) -> FakeDriver:
        options = {"strategy": Option("rules", ("exact", "mesa"), "exact")}
        npu = FakeDriver("fake", "F", ("f1",), options, chip_device=FakeDevice(**behaviour))
        device = FakeDevice(kinds=("n", "c"), driver="cpu", chip="cpu")
        nodes = (Node("cpu", "cpu", "cpu"),)
        cpu = FakeDriver("cpu", "C", ("cpu",), nodes=nodes, chip_device=device)
        found: dict[str, Driver] = {"fake": npu, "cpu": cpu}
        monkeypatch.setattr(devices, "discover", lambda: Registry(found, {}))
        return npu

    return install


def two_inputs() -> Graph:
    b = Builder("sum")
    x = b.input("left", "u8", (2, 2), scale=0.5, zero_point=0)
    y = b.input("right", "u8", (2, 2), scale=0.5, zero_point=0)
    b.output(b.add(x, y, scale=0.5, zero_point=0), name="total")
    b.output(x)
    return b.build()


A = np.array([[1, 2], [3, 4]], np.uint8)


def test_inputs_and_outputs_are_described() -> None:
    with load(two_inputs(), "cpu") as model:
        assert [(i.name, i.dtype, i.shape) for i in model.inputs] == [
            ("left", np.dtype(np.uint8), (2, 2)),
            ("right", np.dtype(np.uint8), (2, 2)),
        ]
        assert [o.name for o in model.outputs] == ["total", "left"]
        assert model.outputs[0].quantization is not None
        assert model.outputs[0].quantization.scale == 0.5
        assert repr(model) == "<Model 'sum' on cpu>"


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(A, A * 2),
        lambda m: m(A, right=A * 2),
        lambda m: m(left=A, right=A * 2),
        lambda m: m({"right": A * 2, "left": A}),
        lambda m: m({"right": A * 2}, left=A),
        lambda m: dict(zip(("total", "left"), m.run(A, A * 2), strict=True)),
        lambda m: m(np.asfortranarray(A), (A * 2)[:, ::1]),
    ],
)
def test_ways_to_call(call: Callable[[Runner], dict[str, Any]]) -> None:
    with load(two_inputs(), "cpu") as model:
        result = call(model)
    assert list(result) == ["total", "left"]
    assert result["total"].tolist() == [[3, 6], [9, 12]]
    assert result["left"].tolist() == A.tolist()
    assert result["left"] is not A


@pytest.mark.parametrize("cores", [1, 3])
def test_an_input_may_be_a_scalar(cores: int) -> None:
    b = Builder("sum")
    b.output(b.add(b.input("x", "f32", ()), b.input("y", "f32", ())), name="total")
    with load(b.build(), "sim:rk3588", cores) as model:
        (total,) = model.run(np.float32(1), np.array(2, np.float32))
    assert total.shape == ()
    assert total == 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(A), "sum: input 'right' is missing, must be given (uint8[2, 2])"),
        (lambda m: m(), "sum: input 'left' is missing, must be given (uint8[2, 2])"),
        (lambda m: m(A, A, A), "sum: 3 arrays given, must be 2 (left, right)"),
        (lambda m: m(A, A, left=A), "input 'left': is given twice, must be given once"),
        (lambda m: m(A, rigth=A), "sum: there is no input 'rigth', must be one of left, right"
         " (did you mean right?)"),
        (lambda m: m(A, A[0]), "input 'right': is uint8[2], must be uint8[2, 2]"),
        (lambda m: m(A, A.astype(float)), "input 'right': is float64[2, 2], must be uint8[2, 2]"),
        (lambda m: m(A, A.tolist()), "input 'right': is int64[2, 2], must be uint8[2, 2]"),
    ],
)  # fmt: skip
def test_wrong_calls(call: Callable[[Runner], object], message: str) -> None:
    with (
        load(two_inputs(), "cpu") as model,
        pytest.raises(OptionError, match=f"^{re.escape(message)}$"),
    ):
        call(model)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_on_the_cpu(name: str) -> None:
    graph = sample(name)
    inputs = random_inputs(graph)[: len(graph.given)]
    with load(graph, "cpu") as model:
        results = model.run(*inputs)
    wanted = run(graph, graph.with_initial(inputs))[: len(graph.returned)]
    assert [r.tobytes() for r in results] == [r.tobytes() for r in wanted]


def test_partitions_pass_values_on(fake: Fake) -> None:
    driver = fake()
    graph = wired(
        ("a", "n", "x"), ("b", "c", "a"), ("c", "n", ["a", "b", "x"]), ("d", "c", "a"),
        outputs=["c", "x", "a", "d"],
    )  # fmt: skip
    with load(graph, "sim:f1") as model:
        results = model.run(X)
        assert [r.tolist() for r in results] == [r.tolist() for r in run(graph, [X])]
        assert len(driver.opened[0].loaded) == 2
    assert driver.opened[0].closed == 1
    assert [e.closed for e in driver.opened[0].loaded] == [1, 1]


def test_report(fake: Fake) -> None:
    fake(vetoes={"v2": "not after v1"})
    with load(chain("n", "c", "n"), "sim:f1", options={"strategy": "mesa"}) as model:
        report = model.report()
    assert str(report) == (
        "chain: 3 operations\n"
        "    0  test_plus  fake f1    0  v0\n"
        "    1  test_plus  cpu        1  v1\n"
        "        fake f1: kind is 'c'\n"
        "    2  test_plus  cpu        1  v2\n"
        "        fake f1: not after v1\n"
        "fake f1: 1 operations, 0 MACs, 1 partitions\n"
        "cpu: 2 operations, 0 MACs, 1 partitions"
    )
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["devices"] == ["fake f1", "cpu"]
    assert plain["operations"][2]["reasons"] == [{"device": "fake f1", "reason": "not after v1"}]
    assert plain["partitions"][1]["operations"] == [1, 2]
    assert plain["partitions"][0]["statistics"] == {"tasks": 1}
    assert plain["totals"]["operations"] == {"fake f1": 1, "cpu": 2}


def keep_last(graph: Graph) -> Graph:
    last = graph.ops[-1]
    return graph.with_ops([last.rewired({last.inputs_present[0]: graph.inputs[0]})])


def test_passes_of_the_device_run_before_partitioning(fake: Fake) -> None:
    fake(rewrites=(keep_last,))
    graph = chain("n", "c", "n")
    seen: list[str] = []
    plan_model(graph, open_device("f1")[0], lambda name, _: seen.append(name))
    assert seen == ["keep_last"]
    with load(graph, "sim:f1") as model:
        assert model(X)["v2"].tolist() == [2, 3, 4, 0]
        report = model.report()
    assert "       test_plus v0: folded\n       test_plus v1: folded\n" in str(report)
    assert [row["name"] for row in report.as_dict()["folded"]] == ["v0", "v1"]
    with load(graph, "cpu") as model:
        assert model(X)["v2"].tolist() == [4, 5, 6, 2]


def test_operations_that_cannot_be_encoded_go_to_the_cpu(fake: Fake) -> None:
    fake(unencodable=("v2",))
    with load(chain("n", "c", "n"), "sim:f1") as model:
        assert model(X)["v2"].tolist() == [4, 5, 6, 2]
        last = model.report().as_dict()["operations"][2]
    assert last["device"] == "cpu"
    assert last["reasons"] == [{"device": "fake f1", "reason": "test_plus 'v2': does not fit"}]


def test_only_operations_that_cannot_be_encoded_move(fake: Fake) -> None:
    """The other operations of the partition stay, before it and after it."""
    fake(unencodable=("v2", "v5"))
    with load(chain(*"nnnnnnn"), "sim:f1") as model:
        assert model(X)["v6"].tolist() == [8, 9, 10, 6]
        places = [row["device"] for row in model.report().as_dict()["operations"]]
    assert places == ["fake f1", "fake f1", "cpu", "fake f1", "fake f1", "cpu", "fake f1"]


@dataclass
class Jealous(FakeDevice):
    """Can express any operation, but not all of these together."""

    together: frozenset[str] = frozenset({"v1", "v3"})

    def compile(self, subgraph: Graph) -> Program:
        if self.together <= {op.results[0].name for op in subgraph.ops}:
            raise EncodingError(f"{len(subgraph.ops)} operations are too many")
        return super().compile(subgraph)


def test_operations_that_cannot_be_encoded_together_are_separated() -> None:
    """The first operation that is too much for what is before it moves."""
    graph, cpu = chain(*"nnnnn"), FakeDevice(driver="cpu", chip="cpu")
    plan = partition(graph, [Jealous(), cpu])
    artefact = compile_plan(plan, Cache(None))
    final = artefact.plan
    assert [final.placements[op].device for op in graph.ops] == [0, 0, 0, 1, 0]
    assert final.placements[graph.ops[3]].reasons == (("fake f1", "4 operations are too many"),)
    assert len(artefact.programs) == 3


def test_a_description_compiles_and_does_not_run(fake: Fake) -> None:
    driver = fake()
    with load(chain("n"), "f1") as model:
        assert len(driver.chip_device.compiled) == 1
        assert model.programs[0] is not None
        expected = (
            "fake f1: is the description of a chip and can only compile; to run the model, load it"
            " with device='sim:f1' or a real device"
        )
        with pytest.raises(DriverUnavailable, match=f"^{re.escape(expected)}$"):
            model(X)


def test_an_unknown_operation_is_reported_and_refused_early() -> None:
    graph = opaque_graph()
    rows = Report(plan_model(graph, open_device("cpu")[0])).as_dict()["operations"]
    assert [r["device"] for r in rows] == ["cpu", "nowhere", "cpu"]
    assert rows[1]["reasons"] == [{"device": "cpu", "reason": "GATHER_ND is not read"}]
    expected = r"^GATHER_ND 'gather_nd': cpu: GATHER_ND is not read$"
    with pytest.raises(UnsupportedOperation, match=expected):
        load(graph, "cpu")


def test_closed_models_refuse() -> None:
    model = load(two_inputs(), "cpu")
    model.close()
    model.close()
    with pytest.raises(OptionError, match=r"^sum: the model is closed, must be open$"):
        model(A, A)


def test_a_failed_load_closes_the_device(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = fake()

    def fail(self: FakeDevice, subgraph: Graph) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(FakeDevice, "compile", fail)
    with pytest.raises(DriverFault, match=r"^driver fake: compile failed, RuntimeError: broken "):
        load(chain("n"), "sim:f1")
    assert driver.opened[0].closed == 1


def test_names_that_occur_twice_get_a_number() -> None:
    b = Builder()
    x = b.input("x", "u8", (1,))
    b.output(x, x)
    with load(b.build(), "cpu") as model:
        assert list(model(np.zeros(1, np.uint8))) == ["x", "x_2"]


def test_an_output_that_occurs_twice_gives_two_arrays() -> None:
    b = Builder()
    x = b.input("x", "u8", (2,), scale=1.0)
    y = b.relu(x, scale=1.0, zero_point=0)
    b.output(y, y)
    with load(b.build(), "cpu") as model:
        first, second = model.run(np.array([1, 2], np.uint8))
    first[:] = 9
    assert second.tolist() == [1, 2]


def test_several_threads_may_call_one_model(fake: Fake) -> None:
    fake()
    graph = wired(
        ("a", "n", "x"), ("b", "c", ["a", "x"]), ("c", "n", ["a", "b"]), outputs=["c", "a"]
    )
    inputs = [np.array([n, n + 1, 7, 255 - n], np.uint8) for n in range(200)]
    with load(graph, "sim:f1") as model, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(model.run, inputs))
    for given, result in zip(inputs, results, strict=True):
        assert [r.tolist() for r in result] == [r.tolist() for r in run(graph, [given])]


def test_text_files_can_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "sum.ir"
    file.write_text(to_text(two_inputs()), "utf-8")
    with teflon.load(file, device="cpu") as model:
        assert model(A, A)["total"].tolist() == (A * 2).tolist()
    file.write_text('graph "g" { input %x: u8[1] %y: u8[2] = relu(%x) output %y }', "utf-8")
    with pytest.raises(ModelError, match=rf"^{re.escape(str(file))}:1:41: RELU 'y': 'x' has no q"):
        teflon.load(file, device="cpu")
    with pytest.raises(ModelError, match=rf"^{re.escape(str(tmp_path / 'no.ir'))}: No such file"):
        teflon.load(tmp_path / "no.ir", device="cpu")


@needs_shared
@needs_oracle
@pytest.mark.parametrize("name", ["mobilenet_v1_1.0_224_quant", "yolox"])
def test_whole_models_on_the_cpu_equal_the_reference(name: str) -> None:
    assert MODELS is not None
    file = MODELS / f"{name}.tflite"
    oracle = Oracle(file)
    inputs = oracle.random_inputs()
    with teflon.load(file, device="cpu") as model:
        results = model.run(*inputs)
    for mine, reference in zip(results, oracle.run(inputs), strict=True):
        assert mine.tobytes() == reference.tobytes()


@needs_shared
@pytest.mark.parametrize(
    "file", sorted(MODELS.glob("*.tflite")) if MODELS else [], ids=lambda f: f.stem
)
def test_whole_models_round_trip_as_text(file: Path) -> None:
    graph = read_graph(file)
    assert not differences(graph, parse(to_text(graph)))


def test_importing_is_cheap() -> None:
    code = (
        "import sys, teflon; print([m for m in ('numpy', 'pluggy', 'teflon.ir', 'flatbuffers')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_version_and_unknown_names() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", teflon.__version__)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        teflon.lode  # noqa: B018


def test_list_of_devices_has_the_cpu() -> None:
    assert "cpu" in {row.spec for row in teflon.list_devices()}
