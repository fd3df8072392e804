"""Tables and variables that several operators of a .tflite file share by a name.

A table is filled once and then only read, so that each part of a model may have its own. A variable
is written all the time: the operators that use one must stay together.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator

from teflon.errors import EncodingError
from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.copying import references
from teflon.frontend.tflite.views import RESOURCES, Views

_READERS = ("HASHTABLE_FIND", "HASHTABLE_SIZE")


def sharing(views: Views, part: Collection[int]) -> list[int]:
    """Return the rows outside a part that fill its tables and variables.

    Raises EncodingError if other rows outside the part use a variable of it.
    """
    rows = views.flat.rows
    keys = {k for n in part if rows[n].kind != "CALL_ONCE" for k in _keys(views, n)}
    found: list[int] = []
    if not keys:
        return found
    for number, row in enumerate(rows):
        if number in part or row.kind in RESOURCES or not keys & set(_keys(views, number)):
            continue
        if row.kind == "CALL_ONCE" or (row.kind == "HASHTABLE_IMPORT"):
            found.append(number)
        elif row.kind not in _READERS:
            raise EncodingError(f"{row.kind} uses a variable of this part, must be in it as well")
    return found


def _keys(views: Views, number: int) -> Iterator[Hashable]:
    """Yield what a row shares with others: in its operands, and in the subgraphs that it calls."""
    flat, source = views.flat, views.source
    row = flat.rows[number]
    for tensor in row.inputs:
        if tensor in flat.makers and views[tensor].type_name == "RESOURCE":
            maker = flat.rows[flat.makers[tensor]]
            yield from _key(maker.kind, flat.operator_table(source, maker.subgraph, maker.local))
    operator = flat.operator_table(source, row.subgraph, row.local)
    yield from _key(row.kind, operator)
    seen: set[int] = set()
    waiting = references(operator)
    while waiting:
        called = waiting.pop()
        if called in seen or called >= len(flat.subgraphs):
            continue
        seen.add(called)
        for local in range(len(flat.subgraphs[called].operators)):
            inner = flat.operator_table(source, called, local)
            yield from _key(flat.kind_of(inner), inner)
            waiting += references(inner)


def _key(kind: str, operator: Table) -> Iterator[Hashable]:
    options = operator.child("builtin_options")
    if options is None or kind not in RESOURCES:
        return
    if options.name == "HashtableOptions":
        yield kind, options.get("table_id")
    elif options.name == "VarHandleOptions":
        yield kind, options.raw_text("container"), options.raw_text("shared_name")
