"""Good programs of every driver, which mutants are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from teflon.compile.cache import Cache
from teflon.compile.planning import compile_plan, plan_model
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import TeflonError
from teflon.frontend.tflite.writer import write
from teflon.ir.graph import Graph
from teflon.run.multicore.choose import Choice
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.parts import Channels, Rows
from teflon.run.multicore.program import one_stage
from teflon.samples.models import resolve
from teflon_common.conformance.grid import cases

KNOWN = {"known": "yes"}
"""The option with which a runtime also takes what the reference knows."""

_HOSTED, _STAGES = 40, 24
_SEED_BYTES = 60_000


def graphs() -> Iterator[Graph]:
    """Yield a whole network, then a small one for each operation and way of quantising."""
    yield read_graph(resolve("digits_int8"))
    seen: dict[tuple[str, str], int] = {}
    for case in cases():
        kind = (case.op, case.form)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] == 1 or (case.op == "wirings" and seen[kind] in (4, 9)):
            yield case.graph()


def compiled(spec: str, options: Mapping[str, str]) -> list[bytes]:
    """Return programs of a device, one for each kind of operation that it runs."""
    device, _ = open_device(spec, options)
    found: list[bytes] = []
    for graph in graphs():
        with suppress(TeflonError):
            artefact = compile_plan(plan_model(graph, device), Cache(None))
            parts = zip(artefact.plan.partitions, artefact.programs, strict=True)
            own = [program.to_bytes() for part, program in parts if part.device == 0]
            found += [data for data in own[:1] if len(data) <= _SEED_BYTES]
    return found


def hosted() -> list[bytes]:
    """Return programs of the TFLite runtime."""
    device, _ = open_device("tflite", KNOWN)
    found: list[bytes] = []
    for graph in graphs():
        with suppress(TeflonError):
            found.append(device.compile(read_graph(write(graph))).to_bytes())
        if len(found) == _HOSTED:
            break
    return found


def stages() -> list[bytes]:
    """Return programs for several cores: whole ones, and some cut into rows or channels."""
    device, _ = open_device("sim:rk3588")
    some = compiled("sim:rk3588", {})[:4]
    found = [one_stage(device.load(data), "all", 0, "").to_bytes() for data in some]
    several = MulticoreDevice(device, 3)
    for graph in graphs():
        if len(graph.ops) > 1 or any(device.unsupported(op, graph) for op in graph.ops):
            continue
        channels = graph.outputs[0].shape[-1]
        ways = (Rows((0.0, 0.5, 1.0)), Channels((0, channels // 2, channels)))
        if channels < 8 or len(graph.outputs[0].shape) != 4:
            continue
        with suppress(TeflonError):
            made = [several.compile_stages(graph, [Choice(0, 1, way)]) for way in ways]
            found += [program.to_bytes() for program in made if program]
        if len(found) >= _STAGES:
            break
    return found
