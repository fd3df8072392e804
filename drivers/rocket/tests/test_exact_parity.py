"""Strategy `exact` against Mesa's recordings: equal, or different for reasons with names."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D
from teflon.ir.types import NO_PADDING, DType
from teflon_rocket.mesa.numbers import TRUNCATED_SCALES
from teflon_rocket.text.commands import decode
from tests.counts import COUNTS, Count
from tests.paths import needs_shared
from tests.recorded import partitions
from tests.rocket.parity import NAMES, Matched, read, recorded_buffers

pytestmark = needs_shared

GEOMETRY = (
    "CNA.CBUF_CON1 CNA.DATA_SIZE0 CNA.DATA_SIZE2 CNA.DMA_CON1 CNA.DMA_CON2 CNA.FC_DATA_SIZE0"
    " CORE.DATAOUT_SIZE_0 DPU.DATA_CUBE_HEIGHT DPU.DATA_CUBE_WIDTH DPU.WDMA_SIZE_1"
    " DPU_RDMA.RDMA_DATA_CUBE_HEIGHT DPU_RDMA.RDMA_DATA_CUBE_WIDTH"
)

REASONS: dict[str, str] = {
    "scales are the nearest 15 bits, Mesa's are cut off and one added": (
        "DPU.OUT_CVT_SCALE DPU.EW_CVT_SCALE_VALUE"
    ),
    "int8 is not taken for uint8": (
        "CNA.PAD_CON1 DPU.BS_OW_OP DPU.OUT_CVT_OFFSET DPU.EW_CVT_OFFSET_VALUE biases weights"
    ),
    "the padded value is given for odd and even channels": "CNA.PAD_CON1",
    "no bit of the accumulator is dropped for particular weight scales": (
        "CORE.CLIP_TRUNCATE DPU.OUT_CVT_SHIFT biases"
    ),
    "the host of an addition keeps its own range and its own padding, one channel its own scale": (
        "CNA.PAD_CON1 DPU.BS_CFG DPU.BS_RELUX_CMP_VALUE DPU.BN_CFG DPU.BN_ALU_CFG biases"
        " CNA.CVT_CON0 CNA.CVT_CON1 CNA.CVT_CON2 CNA.CVT_CON3 CNA.CVT_CON4"
    ),
    "one channel to one channel is uploaded, as rows": (
        "CNA.CBUF_CON1 CNA.DATA_SIZE0 CNA.DMA_CON1 CNA.DMA_CON2"
    ),
    "width is the inner axis": GEOMETRY,
    "the tasks of an operation are one job, also where the weights are loaded again": "jobs",
    "a clamp at a zero point that is not the smallest value": "DPU.BS_CFG DPU.BS_RELUX_CMP_VALUE",
}


def applying(graph: Graph) -> list[str]:
    """The reasons why Mesa's program for a graph may not be right."""
    names = list(REASONS)
    found = [names[0]]
    convolutions = [op for op in graph.ops if isinstance(op, Conv2D | DepthwiseConv2D)]
    additions = [op for op in graph.ops if isinstance(op, Add)]
    tests = (
        any(v.type.dtype is DType.INT8 for v in graph.inputs),
        any(op.padding != NO_PADDING for op in convolutions),
        any(_is_truncated(op) for op in convolutions),
        bool(additions),
        any(op.input.shape[3] == op.output.shape[3] == 1 for op in convolutions),
        any(op.input.shape[1] != op.input.shape[2] for op in convolutions),
        any(op.weights.type.size > 9 * 32768 for op in convolutions),
        any(op.activation.value != "none" for op in graph.ops if hasattr(op, "activation")),
    )
    return found + [name for name, holds in zip(names[1:], tests, strict=True) if holds]


def _is_truncated(op: Op) -> bool:
    assert isinstance(op, Conv2D | DepthwiseConv2D)
    return int(np.float32(op.weights.type.scale).view(np.uint32)) in TRUNCATED_SCALES


def differences(matched: Matched) -> set[str]:
    """What is not equal: registers by name, roles of buffers, jobs."""
    found = {what for what in ("sizes", "jobs", "addresses") if _differ(matched, what)}
    for role, recorded, ours in matched.contents():
        if recorded == ours:
            continue
        if role != "regcmd":
            found.add(role)
            continue
        for theirs, mine in zip(decode(recorded), decode(ours), strict=True):
            if theirs.word != mine.word:
                found.add("" if mine.register is None else mine.register.title())
    return found


def _differ(matched: Matched, what: str) -> bool:
    recorded, ours = getattr(matched, what)()
    return bool(recorded != ours)


@pytest.mark.parametrize("name", NAMES)
def test_equals_mesa_except_for_reasons(name: str) -> None:
    recording, graph = read(name)
    if not recorded_buffers(recording):
        pytest.skip("nothing was submitted")
    found = differences(Matched(recording, graph, "exact"))
    reasons = [r for p in partitions(recording, graph) for r in applying(p)]
    allowed = {register for reason in reasons for register in REASONS[reason].split()}
    assert found <= allowed, f"{found - allowed} cannot come from {reasons}"
    kind = "better for a reason"
    if found <= {"DPU.OUT_CVT_SCALE"}:
        kind = "equal but for the nearest scale" if found else "equal"
    COUNTS.setdefault(f"rocket exact and mesa: {kind}", Count()).cases += 1


def test_every_reason_is_one_that_happens() -> None:
    """A reason that no recording needs would hide a mistake."""
    wanted: set[str] = set()
    for name in NAMES:
        recording, graph = read(name)
        if recorded_buffers(recording):
            for part in partitions(recording, graph):
                wanted.update(applying(part))
    assert wanted == set(REASONS)
