"""Run passes over a graph: verified after each one, shown on demand, skipped by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from teflon import debug
from teflon.ir.graph import Graph
from teflon.ir.text import to_text

Pass = Callable[[Graph], Graph]
"""A named function, or a frozen dataclass with `name` and `__call__`: Graph -> Graph.

It returns the graph it was given (the same object) where it changes nothing.
"""


def pass_name(transform: Pass) -> str:
    """Return the name that messages, dumps and TEFLON_SKIP_PASSES use."""
    name = getattr(transform, "name", "") or getattr(transform, "__name__", "")
    return str(name or type(transform).__name__)


def skipped() -> frozenset[str]:
    """Return the names in TEFLON_SKIP_PASSES (commas between them)."""
    names = os.environ.get("TEFLON_SKIP_PASSES", "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def run_pipeline(
    graph: Graph,
    passes: Iterable[Pass],
    *,
    skip: Iterable[str] | None = None,
    observer: Callable[[str, Graph], None] | None = None,
) -> Graph:
    """Return the graph after all passes.

    `skip` names passes that are left out (none given: TEFLON_SKIP_PASSES). `observer` is called
    after every pass that changed the graph. Raises VerifyError `after PASS: ...` for the first
    pass that broke an invariant.
    """
    left_out = skipped() if skip is None else frozenset(skip)
    for transform in passes:
        name = pass_name(transform)
        if name in left_out:
            if debug.enabled("passes"):
                debug.log(f"pass {name}: skipped")
            continue
        graph = _run(transform, name, graph, observer)
    return graph


def _run(
    transform: Pass, name: str, before: Graph, observer: Callable[[str, Graph], None] | None
) -> Graph:
    start = time.perf_counter()
    graph = transform(before)
    if graph is not before:
        graph.verify(name)
    if debug.enabled("passes"):
        milliseconds = (time.perf_counter() - start) * 1e3
        debug.log(
            f"pass {name}: {len(before.ops)} -> {len(graph.ops)} operations, {milliseconds:.1f} ms"
        )
    if graph is not before and debug.enabled("ir"):
        debug.log(f"# after {name}\n{to_text(graph, data=False)}")
    if graph is not before and observer is not None:
        observer(name, graph)
    return graph
