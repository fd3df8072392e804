"""Run passes over a graph: verified after each one, shown on demand, skipped by name."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from itertools import zip_longest

from teflon import debug, trace
from teflon.errors import TeflonError, VerifyError
from teflon.ir.graph import Graph
from teflon.ir.text import parse, to_text

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


def reread(graph: Graph, name: str) -> Graph:
    """Return the graph that a graph's text says; raises VerifyError where it is another one."""
    text = to_text(graph)
    try:
        again = parse(text, f"text after {name}").verify(name)
    except TeflonError as error:
        raise VerifyError(f"after {name}: the graph's text cannot be read back: {error}") from error
    pairs = zip_longest(text.splitlines(), to_text(again).splitlines(), fillvalue="nothing")
    for line, (have, found) in enumerate(pairs, 1):
        if have != found:
            raise VerifyError(
                f"after {name}: line {line} of the graph's text is {have.strip()!r},"
                f" read back it is {found.strip()!r}"
            )
    return dataclasses.replace(again, listing=graph.listing, origin=graph.origin)


def _run(
    transform: Pass, name: str, before: Graph, observer: Callable[[str, Graph], None] | None
) -> Graph:
    start = time.perf_counter()
    with trace.span(f"pass {name}"):
        graph = transform(before)
        if graph is not before:
            graph.verify(name)
    if graph is not before and debug.enabled("roundtrip"):
        graph = reread(graph, name)
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
