"""Whole networks on the processor and on simulated chips, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from teflon.frontend.onnx.reader import read
from teflon.ir.types import Array
from teflon.run.load import load
from tests.frontend.onnx.foreign import MODELS
from tests.frontend.onnx.nets import NETS
from tests.frontend.onnx.oracle import outputs
from tests.frontend.onnx.quantisers import FEW, inputs_of, quantised_net
from tests.frontend.onnx.test_quantised import ONNXRUNTIME_REFUSES

FAR = 0.1
"""What a few steps of difference in each layer may come to at the end, of the largest output."""


def distance(name: str, model: onnx.ModelProto, device: str) -> float | None:
    """Return how far outputs are apart, of the largest one; None where onnxruntime refuses."""
    inputs = inputs_of(model, seed=7)
    try:
        theirs = outputs(model, inputs, optimised=False)
    except Exception:  # its errors have no common base but this one
        assert name in ONNXRUNTIME_REFUSES
        return None
    shapes = {n: array.shape for n, array in inputs.items()}
    with load(read(model.SerializeToString(), name, shapes=shapes), device) as loaded:
        ours = list(loaded(**inputs).values())
    return max(_apart(a, b) for a, b in zip(ours, theirs, strict=True))


def _apart(ours: Array, theirs: Array) -> float:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))


def test_float_networks_are_onnxruntimes() -> None:
    """Nothing is quantised: all of it is handed on, cut as the shapes and branches want."""
    found = {name: distance(name, make(), "cpu") for name, make in NETS.items()}
    assert {n: d for n, d in found.items() if d is None or d > 1e-5} == {}


@pytest.mark.parametrize("device", ["cpu", "sim:rk3588", "sim:a311d"])
def test_quantised_networks(device: str, record_property: Callable[[str, object], None]) -> None:
    found: dict[str, float | None] = {}
    for number, name in enumerate(NETS):
        form = FEW[number % len(FEW)]
        try:
            model = quantised_net(name, form)
        except (ValueError, RuntimeError):
            assert name in ONNXRUNTIME_REFUSES
            continue
        found[f"{name} {form}"] = distance(name, model, device)
    for name, make in MODELS.items():
        found[name] = distance(name, make(), device)
    known = {name: d for name, d in found.items() if d is not None}
    worst = max(known, key=lambda name: known[name])
    record_property(
        f"summary: quantised .onnx networks on {device}",
        f"{len(known)} networks, mean distance {np.mean(list(known.values())):.2%} of the largest"
        f" output, at most {known[worst]:.2%} ({worst})",
    )
    assert len(known) > 140
    assert {name: d for name, d in known.items() if d > FAR} == {}


def in_runtime(number: int, name: str, options: dict[str, object], device: str) -> tuple[str, ...]:
    """Run a quantised network with the runtime's help; return what ran what."""
    try:
        model = quantised_net(name, FEW[number % len(FEW)])
        inputs = inputs_of(model, seed=8)
        theirs = outputs(model, inputs, optimised=True)
    except Exception:  # onnxruntime's errors have no common base but this one
        assert name in ONNXRUNTIME_REFUSES
        return ()
    shapes = {n: array.shape for n, array in inputs.items()}
    graph = read(model.SerializeToString(), name, shapes=shapes)
    with load(graph, device, options={"cache": "off", **options}) as loaded:
        ours = list(loaded(**inputs).values())
        where = tuple(loaded.report().totals()["operations"])
    assert max(_apart(a, b) for a, b in zip(ours, theirs, strict=True)) <= FAR, name
    return where


def test_the_runtime_takes_whole_networks() -> None:
    """Also those whose inner tensors have another order or sign here than in the file."""
    every = [in_runtime(n, name, {}, "onnxruntime") for n, name in enumerate(NETS)]
    found = [where for where in every if where]
    assert len(found) > 100
    assert set(found) == {("onnxruntime",)}


def test_the_runtime_takes_what_a_chip_leaves() -> None:
    names = list(enumerate(NETS))[::4]
    options: dict[str, object] = {"cpu": "onnxruntime"}
    found = {who for n, name in names for who in in_runtime(n, name, options, "sim:rk3588")}
    assert found >= {"rocket rk3588", "onnxruntime"}


@pytest.mark.parametrize(
    "nodes",
    [
        (("Cast", {"to": onnx.TensorProto.BFLOAT16}), ("Cast", {"to": onnx.TensorProto.FLOAT})),
        (("SplitToSequence", {"axis": 0}), ("ConcatFromSequence", {"axis": 0})),
    ],
    ids=["bfloat16", "sequence"],
)
def test_neighbours_exchange_what_only_the_runtime_can_name(
    nodes: tuple[tuple[str, dict[str, Any]], ...],
) -> None:
    made = [
        helper.make_node(kind, [x], [y], **more)
        for (kind, more), x, y in zip(nodes, ("x", "m"), ("m", "y"), strict=True)
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, 3]) for n in "xy"]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with load(model.SerializeToString(), "sim:rk3588", options={"cache": "off"}) as loaded:
        assert np.array_equal(loaded(x)["y"], x)
