"""Strategy `exact`: every operation of real models within one step, never more coefficients."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from teflon.devices import open_device
from teflon.ir.graph import Graph, Op
from teflon.ir.types import Array
from teflon.pipe import Context
from teflon_etnaviv.device import EtnavivDevice
from tests.counts import COUNTS, Count
from tests.etnaviv.parity import CHIPS, NAMES, graph_of
from tests.oracle import Oracle, needs_oracle
from tests.paths import needs_shared
from tests.recorded import model_bytes

pytestmark = [needs_shared, needs_oracle]

WHOLE = ("mobilenet_v1_1.0_224_quant", "ssdlite_mobiledet_coco_qat_postprocess", "yolox")
REFUSED = {
    "SOFTMAX", "TFLite_Detection_PostProcess",
}  # fmt: skip
"""What the three models have that the driver does not run on the NPU."""


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    _, found = open_device(f"sim:{request.param}")
    assert found is not None
    with found:
        yield found


@functools.lru_cache(maxsize=400)
def tensors(name: str) -> dict[int, Array]:
    """Every tensor of a model, from the reference kernels, for random inputs."""
    content = model_bytes(name)
    oracle = Oracle(content, preserve=True)
    oracle.run(oracle.random_inputs(zlib.crc32(content)))
    return oracle.tensors()


def worst_step(context: Context, graph: Graph, known: dict[int, Array]) -> int:
    """Greatest difference of a graph's outputs on the simulated chip, given its inputs."""
    loaded = context.load(context.device.compile(graph))
    results = context.invoke(loaded, [known[v.index] for v in graph.inputs])
    loaded.close()
    pairs = zip(graph.outputs, results, strict=True)
    return max(int(np.abs(a.astype(int) - known[v.index].astype(int)).max()) for v, a in pairs)


def check_operations(context: Context, name: str) -> list[str]:
    """Run each operation of a model by itself; return what is wrong."""
    graph, known, wrong = graph_of(name), tensors(name), []
    count = COUNTS.setdefault(f"etnaviv {context.device.chip} operations, exact", Count())
    for op in graph.ops:
        if reasons := context.device.unsupported(op, graph):
            wrong += [] if op.tflite_name in REFUSED else [f"{op.title}: {reasons}"]
            continue
        step = worst_step(context, graph.subgraph([op]), known)
        count.cases += 1
        count.elements += sum(v.type.size for v in op.results)
        wrong += [f"{op.title}: differs by {step}"] if step > 1 else []
    return wrong


@pytest.mark.parametrize("group", range(10))
def test_recorded_models(context: Context, group: int) -> None:
    wrong = {}
    for name in NAMES[group::10]:
        if name not in WHOLE and (found := check_operations(context, name)):
            wrong[name] = found
    assert not wrong


@pytest.mark.parametrize("name", WHOLE)
def test_whole_models_operation_by_operation(context: Context, name: str) -> None:
    assert check_operations(context, name) == []


def _bytes(device: EtnavivDevice, graph: Graph, op: Op) -> int:
    program = device.compile(graph.subgraph([op]))
    return program.statistics.get("coefficient_bytes", 0)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", WHOLE)
def test_no_layer_has_more_coefficients_than_mesas(chip: str, name: str) -> None:
    """Ref: docs/hardware/etnaviv.md section 10.5: V8's map saves 15 % and more."""
    ours, mesas = (EtnavivDevice(chip, {"strategy": s}) for s in ("exact", "mesa"))
    graph, total = graph_of(name), np.zeros(2, np.int64)
    for op in graph.ops:
        if mesas.unsupported(op, graph) or ours.unsupported(op, graph):
            continue
        pair = (_bytes(ours, graph, op), _bytes(mesas, graph, op))
        assert pair[0] <= pair[1], op.title
        total += pair
    assert total[0] <= total[1] * (0.86 if chip == "imx8mp" else 1)
