"""Whole public models: every operation that goes to the NPU, within one step of its reference on
the operands that the device had.
"""

from __future__ import annotations

import numpy as np
import pytest

from teflon.frontend import tflite
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.interpreter import run
from teflon.ir.types import Array
from teflon.runtime import plan_model
from tests.counts import COUNTS, Count
from tests.paths import MODELS, needs_shared
from tests.rocket_grid import DEVICE, differences, open_simulator, random_inputs

pytestmark = needs_shared

EXPECTED = {
    "mobilenet_v1_1.0_224_quant": 28,
    "ssdlite_mobiledet_coco_qat_postprocess": 108,
    "yolox": 90,
}
"""Model -> operations that go to the NPU."""


def reference_values(graph: Graph, inputs: list[Array]) -> dict[Value, Array]:
    """Every value of a run with the IR's arithmetic."""
    values = dict(zip(graph.inputs, inputs, strict=True))

    def keep(op: Op, operands: object, results: object) -> None:
        assert isinstance(results, tuple | list)
        values.update(zip(op.results, results, strict=True))

    run(graph, inputs, keep)
    return values


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_operation_on_the_npu(name: str) -> None:
    assert MODELS is not None
    plan = plan_model(tflite.load(MODELS / f"{name}.tflite"), DEVICE)
    graph = plan.graph
    values = reference_values(graph, random_inputs(np.random.default_rng(7), graph))
    taken = 0
    with open_simulator() as context:
        for part in plan.partitions:
            if part.device != 0:
                continue
            found = differences(context, part.graph, [values[v] for v in part.graph.inputs])
            wrong = {op.title: worst for op, worst in found.items() if worst > 1}
            assert wrong == {}
            taken += len(part.graph.ops)
            count = COUNTS.setdefault(f"rocket model: {name[:12]}", Count())
            count.cases += len(found)
            count.elements += sum(op.results[0].type.size for op in found)
    assert taken == EXPECTED[name]
