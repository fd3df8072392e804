"""Strategy `mesa` against what Mesa 26.2.6 really submitted."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from teflon_rocket.device import RocketDevice
from tests.counts import COUNTS, Count
from tests.paths import needs_shared
from tests.recorded import model_bytes, partitions
from tests.rocket.parity import NAMES, Matched, expected_failures, read

pytestmark = needs_shared


def _problems(name: str) -> list[str]:
    """What differs between a recording and our program for its model."""
    recording, graph = read(name)
    device = RocketDevice("rk3588", {"strategy": "mesa"})
    refused = [r for p in partitions(recording, graph) for r in device.veto(p).values()]
    if refused:
        return refused
    matched = Matched(recording, graph, "mesa")
    problems = []
    for what in ("sizes", "addresses", "jobs"):
        recorded, ours = getattr(matched, what)()
        if recorded != ours:
            problems.append(what)
    problems += [role for role, recorded, ours in matched.contents() if recorded != ours]
    arrays = _inputs(name)
    for what, recorded, ours in matched.inputs(arrays):
        _count("rocket inputs converted as recorded", len(ours))
        problems += [what] if recorded != ours else []
    return problems


def _count(name: str, elements: int) -> None:
    count = COUNTS.setdefault(name, Count())
    count.cases += 1
    count.elements += elements


def _inputs(name: str) -> dict[int, Any]:
    """The model's inputs as recorded: uniform over the type's range, seeded by the file."""
    recording, _ = read(name)
    rng = np.random.default_rng(zlib.crc32(model_bytes(name)))
    found = {}
    for tensor in recording.meta["inputs"]:
        kind = np.dtype(tensor["dtype"])
        if kind.kind in "iu":
            info = np.iinfo(kind)
            high = int(info.max) + 1
            found[tensor["index"]] = rng.integers(info.min, high, tensor["shape"], dtype=kind)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_program_equals_the_recorded_one(name: str) -> None:
    """Buffer sizes and order, weights, biases, commands, job lists, converted inputs."""
    problems = _problems(name)
    reason = expected_failures().get(name)
    if reason is None:
        assert problems == []
        _count("rocket programs equal to recorded ones", len(read(name)[0].meta["bos"]))
    else:
        assert problems == [reason], "expected to differ for another reason"


@pytest.mark.parametrize("name", NAMES)
def test_takes_what_mesa_takes(name: str) -> None:
    recording, graph = read(name)
    device = RocketDevice("rk3588", {"strategy": "mesa"})
    by_outputs = {tuple(v.index for v in op.results): op for op in graph.ops}
    for node, op in zip(recording.meta["teflon_nodes"], recording.meta["ops"], strict=True):
        ours = by_outputs[tuple(op["outputs"])]
        assert bool(device.unsupported(ours, graph)) != node["supported"], ours.title


def test_every_expected_failure_is_a_recording() -> None:
    assert set(expected_failures()) <= set(NAMES)
