"""Drivers of other authors that break the interface: one sentence each, which names the driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import teflon
from teflon import devices, plugins
from teflon.cli import main
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.devices import open_device
from teflon.errors import DriverFault, DriverUnavailable
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Node
from teflon.plugins import Registry
from teflon.run.model import Model
from tests.contract.helpers import (
    FakeContext,
    FakeDevice,
    FakeDriver,
    FakeFence,
    FakeProgram,
    chain,
    wired,
)

X = np.zeros(4, np.uint8)
GOOD = Node("/dev/good", "odd", "o1")


class Odd(FakeDriver):
    """A driver with methods that a test replaces."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Odd]:
    """Install a driver `odd` beside the real ones, with some methods replaced."""
    monkeypatch.delenv("TEFLON_DEVICE", raising=False)
    real = plugins.discover()

    def put(**methods: object) -> Odd:
        kind = type("Odd", (Odd,), methods)
        driver: Odd = kind("odd", "strange", ("o1",), {}, nodes=(GOOD,))
        registry = Registry({**real.drivers, "odd": driver}, {}, real.recorders, real.ours)
        for module in (devices, plugins):
            monkeypatch.setattr(module, "discover", lambda: registry)
        return driver

    return put


def fails(*_: object, **__: object) -> Any:
    raise KeyError("its own mistake")


def exits(*_: object, **__: object) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "the result of the driver's probe is None, must be a list of Node"),
        ("/dev/x", "the result of the driver's probe is '/dev/x', must be a list of Node"),
        ([None], "the driver's probe returned None, no Node"),
        ([Node("/dev/x", "rocket")], "the driver's probe returned a Node of driver 'rocket'"),
        ([Node("/dev/x", "odd", "o9")], "the driver's probe found the chip 'o9', which the driver"),
        ([Node(None, "odd")], "the driver's probe returned a Node with None, must have texts"),  # type: ignore[arg-type]
        ([Node("/dev/x", "odd", problem=5)], "the driver's probe returned a Node with 5, must"),  # type: ignore[arg-type]
    ],
)
def test_probe(
    install: Callable[..., Odd], found: Any, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(probe=lambda self, root="/": found)
    assert any(row.problem.startswith(problem) for row in devices.devices())
    with pytest.raises(DriverUnavailable, match="no NPU was found") as caught:
        open_device("auto")
    assert f"odd: {problem}" in str(caught.value).replace("/dev/x: ", "")
    assert main(["devices", "--json"]) == 0
    drivers = {d["name"]: d for d in json.loads(capsys.readouterr().out)["drivers"]}
    assert drivers["odd"]["nodes"][0]["problem"].startswith(problem)


def test_probe_that_ends_the_process(install: Callable[..., Odd]) -> None:
    driver = install(probe=exits)
    assert [n.problem for n in devices.probe(driver)] == [
        "the driver's probe failed, SystemExit: 3"
    ]


def test_good_nodes_beside_bad_ones_are_used(install: Callable[..., Odd]) -> None:
    install(probe=lambda self, root="/": [None, GOOD])
    assert open_device("auto")[0].chip == "f1"


@pytest.mark.parametrize("how", [fails, exits, lambda *_: None, lambda *_: 5])
@pytest.mark.parametrize(("method", "spec"), [("device", "o1"), ("open", "odd"),
                                              ("simulate", "sim:o1")])  # fmt: skip
def test_doors(install: Callable[..., Odd], method: str, spec: str, how: Any) -> None:
    install(**{method: how})
    with pytest.raises(DriverFault, match=rf"^driver odd: .*{method}"):
        open_device(spec)


def _odd(value: Any) -> Any:
    return lambda *_: value


TWO = wired(("a", "n", ["x"]), ("b", "n", ["x"]), outputs=["a", "b"])
DEVICE = {
    "unsupported": (fails, exits, _odd(None), _odd("no"), _odd([5])),
    "passes": (fails, _odd(None), _odd([5]), _odd([fails]), _odd([_odd(None)])),
    "veto": (fails, _odd(None), _odd([]), _odd({5: "x"})),
    "leave": (fails, _odd(None), _odd({5: "x"})),
    "compile": (fails, exits, _odd(None), _odd(5), _odd(FakeProgram(TWO))),
    "signature": (fails, _odd(5)),
}


@pytest.mark.parametrize(("method", "how"), [(m, h) for m, hows in DEVICE.items() for h in hows])
def test_devices(install: Callable[..., Odd], method: str, how: Any, tmp_path: Any) -> None:
    device = type("D", (FakeDevice,), {method: how})()
    install(device=lambda self, chip, options=None: device)
    opened, _ = open_device("o1")
    with pytest.raises(DriverFault, match=r"^driver odd: ") as caught:
        compile_graph(chain("n"), opened, NONE if method != "signature" else teflon_cache(tmp_path))
    assert method.rstrip("s") in str(caught.value) or method == "passes"


def teflon_cache(folder: Any) -> Any:
    from teflon.compile.cache import Cache

    return Cache(folder)


@pytest.mark.parametrize("method", ["describe", "outline", "estimate", "load"])
def test_asked_for_people(install: Callable[..., Odd], method: str) -> None:
    device = type("D", (FakeDevice,), {method: fails})()
    install(device=lambda self, chip, options=None: device)
    opened, _ = open_device("o1")
    with pytest.raises(DriverFault, match=rf"^driver odd: {method} failed, KeyError: 'its own"):
        getattr(opened, method)(b"")


def context(**methods: object) -> Callable[..., Context]:
    kind = type("C", (FakeContext,), methods)
    return lambda self, node, options=None: kind(FakeDevice())


def submit(outputs: Any) -> Any:
    return lambda self, executable, inputs: FakeFence(outputs)


class Late(Fence):
    """A fence that fails."""

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        raise ZeroDivisionError("late")


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({"load": fails}, "load failed, KeyError: 'its own mistake'"),
        ({"load": _odd(None)}, "the result of load is None, must be a Executable"),
        ({"submit": fails}, "submit failed, KeyError: 'its own mistake'"),
        ({"submit": _odd([X])}, "the result of submit is [array([0, 0, 0, 0], dtype=uint8)], must"),
        ({"submit": lambda *_: Late()}, "wait failed, ZeroDivisionError: late"),
        ({"submit": submit(None)}, "the result of wait is None, must be a list of 1 arrays"),
        ({"submit": submit([])}, "the result of wait is 0 arrays, must be a list of 1 arrays"),
        ({"submit": submit([X, X])}, "the result of wait is 2 arrays, must be a list of 1 arrays"),
        ({"submit": submit([None])}, "the result of wait has None as output 0, must have an array"),
        ({"submit": submit([X.astype("f4")])},
         "the result of wait has float32[4] as output 0, must have uint8[4]"),
        ({"submit": submit([X[:3]])}, "the result of wait has uint8[3] as output 0, must"),
        ({"invoke": fails}, "invoke failed, KeyError: 'its own mistake'"),
        ({"invoke": _odd([X[:3]])}, "the result of invoke has uint8[3] as output 0, must have"),
    ],
)  # fmt: skip
def test_contexts(
    install: Callable[..., Odd], methods: Mapping[str, object], sentence: str
) -> None:
    install(open=context(**methods))
    device, opened = open_device("odd")
    artefact = compile_graph(chain("n"), device, NONE)
    with pytest.raises(DriverFault) as caught, Model(artefact, opened) as model:
        model(X)
    assert str(caught.value).startswith(f"driver odd: {sentence}")
    assert caught.value.driver == "odd"


def test_a_driver_that_keeps_the_interface_works(install: Callable[..., Odd]) -> None:
    install()
    device, opened = open_device("odd")
    assert isinstance(device, Device)
    artefact = compile_graph(chain("n", "n"), device, NONE)
    with Model(artefact, opened) as model:
        assert next(iter(model(X).values())).tolist() == [2] * 4
        assert isinstance(model._executables[0], Executable)


DESCRIPTIONS: Sequence[tuple[dict[str, Any], str]] = (
    ({"chips": "o1"}, "chips is 'o1', must be a tuple of texts"),
    ({"chips": ()}, "chips is empty, must have the name of a chip"),
    ({"options": {"x": 5}}, "options is {'x': 5}, must be a mapping of names to Option"),
    ({"runs": "tflite"}, "runs is 'tflite', must be a tuple of texts"),
)


@pytest.mark.parametrize(("fields", "problem"), DESCRIPTIONS)
def test_descriptions(fields: dict[str, Any], problem: str) -> None:
    driver = Odd(**{"name": "odd", "summary": "", "chips": ("o1",), **fields})
    assert plugins._driver_problem(driver) == problem


def test_the_public_list_survives(install: Callable[..., Odd]) -> None:
    install(probe=fails)
    assert {row.spec for row in teflon.list_devices()} >= {"sim:rk3588", "cpu"}
