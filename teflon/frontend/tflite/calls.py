"""Which subgraphs call which: a file that calls itself would never end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from teflon.errors import EncodingError
from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.copying import references
from teflon.frontend.tflite.subgraphs import Subgraphs

_CALLERS = frozenset(
    {
        "CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE",
        "STABLEHLO_CUSTOM_CALL", "STABLEHLO_REDUCE", "STABLEHLO_REDUCE_WINDOW",
        "STABLEHLO_SCATTER", "STABLEHLO_SORT", "STABLEHLO_WHILE",
    }
)  # fmt: skip
VARIABLES = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
CHANGING = frozenset({"ASSIGN_VARIABLE"})


def called_subgraphs(subgraphs: Subgraphs) -> dict[int, list[int]]:
    """Return each subgraph that subgraph 0 reaches with those that its operators call.

    Raises ModelError where one calls itself, over others or at once: TFLite would not return.
    """
    calls: dict[int, list[int]] = {}
    waiting = [0] if _CALLERS.intersection(subgraphs.flat.kinds) else []
    while waiting:
        number = waiting.pop()
        if number in calls:
            continue
        calls[number] = _calls(subgraphs, number)
        waiting += calls[number]
    _refuse_circles(subgraphs, calls)
    return calls


def uses_variables(
    subgraphs: Subgraphs,
    calls: Mapping[int, Sequence[int]],
    operator: Table,
    kinds: Collection[str] = VARIABLES,
) -> bool:
    """Whether the subgraphs that an operator calls have operators of these kinds."""
    flat, seen = subgraphs.flat, set[int]()
    if flat.kind_of(operator) not in _CALLERS:
        return False
    waiting = _references(operator)
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        waiting += calls[number]
        for local in range(len(flat.subgraphs[number].operators)):
            if flat.kind_of(flat.operator_table(flat.source, number, local)) in kinds:
                return True
    return False


def _calls(subgraphs: Subgraphs, number: int) -> list[int]:
    flat, found = subgraphs.flat, set[int]()
    for local in range(len(flat.subgraphs[number].operators)):
        operator = flat.operator_table(flat.source, number, local)
        kind = flat.kind_of(operator)
        for called in _references(operator) if kind in _CALLERS else []:
            if called >= len(flat.subgraphs):
                flat.source.fail(
                    operator.place,
                    f"{kind} calls subgraph {called}, must be below {len(flat.subgraphs)}, the"
                    " number of subgraphs",
                )
            found.add(called)
    return sorted(found)


def _references(operator: Table) -> list[int]:
    try:
        return references(operator)
    except EncodingError:  # options of a newer schema
        return []


def _refuse_circles(subgraphs: Subgraphs, calls: dict[int, list[int]]) -> None:
    """Take away subgraphs that call none that is left, until none is left."""
    left = {number: set(called) for number, called in calls.items()}
    while ready := [number for number, called in left.items() if not called]:
        for number in ready:
            del left[number]
        for called in left.values():
            called.difference_update(ready)
    if left:
        path = [min(left)]
        while path[-1] not in path[:-1]:
            path.append(min(left[path[-1]]))
        place = subgraphs.flat.subgraphs[path[-1]].place
        subgraphs.source.fail(place, "calls itself by way of its operators, must not")
