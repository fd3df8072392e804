"""Copy tables of a .tflite file as they are, to write them into another file.

Nothing is decoded that is not changed: vectors stay views on the file. A table with a field that
the schema does not have is refused, as its copy would lose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from teflon.errors import EncodingError
from teflon.frontend.tflite import emit, schema
from teflon.frontend.tflite.access import Table
from teflon.ir import Array

_ROW_BYTES: Final = 64
"""What a copied table costs beyond its content."""

SUBGRAPHS: Final = {
    "CallOptions": ("subgraph",),
    "CallOnceOptions": ("init_subgraph_index",),
    "IfOptions": ("then_subgraph_index", "else_subgraph_index"),
    "WhileOptions": ("cond_subgraph_index", "body_subgraph_index"),
    "StableHLOCompositeOptions": ("decomposition_subgraph_index",),
    "StablehloCaseOptions": ("branch_subgraph_indices",),
    "StablehloCustomCallOptions": ("called_computations",),
    "StablehloReduceOptions": ("body_subgraph_index",),
    "StablehloReduceWindowOptions": ("body_subgraph_index",),
    "StablehloScatterOptions": ("update_computation_subgraph_index",),
    "StablehloSortOptions": ("comparator_subgraph_index",),
    "StablehloWhileOptions": ("cond_subgraph_index", "body_subgraph_index"),
}
"""Options table -> its fields that are numbers of subgraphs."""

_UNION_CODES: Final = frozenset(f"{name}_type" for name in schema.UNIONS)
OPTIONS: Final = ("builtin_options", "builtin_options_2")


def copied(table: Table, **changed: Any) -> emit.Table:
    """Return a table with some fields changed; those changed to None are left out.

    Raises EncodingError for content that the schema does not have, ModelError for a broken table.
    """
    table.source.charge(table.place, _ROW_BYTES)
    if (slot := table.unknown_slot()) is not None:
        raise EncodingError(
            f"{table.name} has a field in slot {slot}, must have no more than the"
            f" {schema.slot_count(table.name)} of the schema that is known (a newer file: convert"
            " the model for an older TFLite)",
            where=str(table.place),
        )
    known = schema.fields(table.name)
    values = {
        name: _value(table, about)
        for name, about in known.items()
        if name not in changed and table.has(name) and name not in _UNION_CODES
    }
    values.update(changed)
    return emit.table(table.name, **values)


def _value(table: Table, about: schema.Field) -> Any:
    name = about.name
    if about.kind in schema.SCALARS:
        return table.get(name)
    if about.kind == "string":
        return table.raw_text(name)
    if about.is_vector:
        if about.element in schema.SCALARS:
            return vector(table, name)
        return [copied(inner) for inner in table.children(name)]
    inner = child(table, name)
    return None if inner is None else copied(inner)


def vector(table: Table, field: str) -> Array | None:
    """Return a vector as a view whose bytes are counted, since they will be written."""
    found = table.vector(field)
    if found is not None:
        table.source.charge(table.place, found.nbytes)
    return found


def child(table: Table, field: str) -> Table | None:
    """Return an inner table. Raises EncodingError for one of a kind that the schema has not."""
    is_union = schema.fields(table.name)[field].kind == "union"
    if is_union and table.get(f"{field}_type") >= len(schema.UNIONS[field]):
        raise EncodingError(
            f"kind of {field} is {table.get(f'{field}_type')}, must be below"
            f" {len(schema.UNIONS[field])}, those of the schema that is known (a newer file:"
            " convert the model for an older TFLite)",
            where=str(table.place),
        )
    return table.child(field)


def references(operator: Table) -> list[int]:
    """Return the numbers of the subgraphs that an operator's options name; -1 is none."""
    found: list[int] = []
    for field in OPTIONS:
        options = child(operator, field)
        if options is not None:
            for name in SUBGRAPHS.get(options.name, ()):
                found += _numbers(options, name)
    return [number for number in found if number >= 0]


def _numbers(options: Table, name: str) -> Sequence[int]:
    if schema.fields(options.name)[name].is_vector:
        return options.numbers(name)
    return (options.get(name),)


def renumbered_options(operator: Table, subgraphs: Mapping[int, int]) -> dict[str, Any]:
    """Return an operator's options with the new numbers of the subgraphs that they name."""
    found: dict[str, Any] = {}
    for field in OPTIONS:
        options = child(operator, field)
        if options is None:
            found[field] = None
            continue
        changed: dict[str, Any] = {}
        for name in SUBGRAPHS.get(options.name, ()):
            new = [subgraphs.get(number, number) for number in _numbers(options, name)]
            is_vector = schema.fields(options.name)[name].is_vector
            changed[name] = np.array(new, np.int32) if is_vector else new[0]
        found[field] = copied(options, **changed)
    return found
