"""The simulator runs what Mesa 26.2.6 really submitted; TFLite's reference kernels judge it."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping

import numpy as np
import pytest

from teflon.errors import SimulatorFault
from teflon.ir.types import Array
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.replay import Buffers
from teflon_etnaviv.simulator.machine import Machine
from tests.counts import COUNTS, Count
from tests.etnaviv.parity import CHIPS, NAMES, Matched, Part, expected_failures
from tests.oracle import Oracle, needs_oracle
from tests.paths import needs_shared
from tests.recorded import model_bytes

pytestmark = [needs_shared, needs_oracle]

WHOLE = ("mobilenet_v1_1.0_224_quant", "ssdlite_mobiledet_coco_qat_postprocess")
"""Chains of operations, where one step early on grows: their layers are judged one by one."""


@functools.lru_cache(maxsize=2)
def reference(name: str) -> dict[int, Array]:
    """Every tensor of a model, for the inputs that it was recorded with."""
    content = model_bytes(name)
    rng = np.random.default_rng(zlib.crc32(content))
    oracle = Oracle(content, preserve=True)
    inputs = []
    for detail in oracle.inputs:
        info = np.iinfo(detail["dtype"])
        shape = detail["shape"]
        inputs.append(rng.integers(info.min, int(info.max) + 1, shape, dtype=detail["dtype"]))
    oracle.run(inputs)
    return oracle.tensors()


def on_simulator(
    chip: Chip, memory: DeviceMemory, stream: bytes, flags: Mapping[int, int], where: str
) -> None:
    """Execute a stream."""
    Machine(chip, memory).run_stream(stream, flags, where)


def replay(matched: Matched, part: Part, tensors: Mapping[int, Array]) -> list[Array]:
    """Run a recorded submit on the simulator and return the partition's outputs."""
    submit = matched.submit(part)
    assert submit is not None
    buffers = Buffers(matched.recording)
    for bo in matched.made:
        buffers.create(bo["handle"], bo["size"])
    listed = [handle for handle, _, _ in submit["bos"]]
    buffers.fill(part.submit, listed)
    for value, port in zip(part.graph.inputs, part.program.input_ports, strict=True):
        if (handle := part.handle(port.buffer)) in listed:
            port.store(tensors[value.index], buffers.memory[handle])
    buffers.run(matched.chip, submit, on_simulator)
    ports = part.program.output_ports
    return [port.fetch(buffers.memory[part.handle(port.buffer)]) for port in ports
            if part.handle(port.buffer) in listed]  # fmt: skip


def verdict(chip: str, name: str) -> str:
    """Return "" where a recording's result is within one step, else what is wrong."""
    matched, tensors = Matched(chip, name), reference(name)
    worst = 0
    for part in matched.parts:
        if matched.submit(part) is None:
            continue
        try:
            outputs = replay(matched, part, tensors)
        except SimulatorFault as fault:
            return str(fault)
        for value, have in zip(part.graph.outputs, outputs, strict=False):
            want = tensors[value.index].astype(int)
            worst = max(worst, int(np.abs(have.astype(int) - want).max()))
            count = COUNTS.setdefault(f"etnaviv {chip} recordings run", Count())
            count.elements += want.size
            count.mismatches += int((np.abs(have.astype(int) - want) > 1).any())
    COUNTS[f"etnaviv {chip} recordings run"].cases += 1
    return "" if worst <= 1 else f"differs by {worst}"


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", [n for n in NAMES if n not in WHOLE])
def test_recorded_programs_give_the_reference_result(name: str, chip: str) -> None:
    matched = Matched(chip, name)
    if not any(matched.submit(part) for part in matched.parts):
        assert name not in expected_failures(chip)
        return
    problem = verdict(chip, name)
    if name in expected_failures(chip):
        assert problem, "comes out right: take its line from the expectation file"
    else:
        assert problem == ""


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_recorded_models_run(name: str, chip: str) -> None:
    """Every launch of the recorded networks is understood; results are judged layer by layer."""
    matched, tensors = Matched(chip, name), reference(name)
    for part in matched.parts:
        if matched.submit(part) is not None:
            assert replay(matched, part, tensors)
