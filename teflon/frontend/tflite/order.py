"""Find out which operator makes which tensor, and an order in which operators can run."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teflon.frontend.tflite.access import Place, Source


@dataclass(frozen=True, eq=False, repr=False)
class Wiring:
    """The tensors of one operator by number; -1 is an optional one that is absent."""

    title: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: Place


def makers(
    source: Source, wirings: Sequence[Wiring], names: Sequence[str] | Mapping[int, str]
) -> dict[int, int]:
    """Return tensor -> the operator that makes it. Raises ModelError where two make one."""
    found: dict[int, int] = {}
    for number, wiring in enumerate(wirings):
        for tensor in wiring.outputs:
            if tensor in found:
                other = wirings[found[tensor]].title
                source.fail(
                    wiring.place,
                    f"{wiring.title} makes tensor {names[tensor]!r}, which {other} makes already",
                )
            found[tensor] = number
    return found


def order(source: Source, wirings: Sequence[Wiring], made: dict[int, int]) -> list[int]:
    """Return the operators' numbers so that each comes after those it reads; else as in the file.

    Raises ModelError where they wait for each other, naming the circle.
    """
    waits = [{made[t] for t in wiring.inputs if t in made} for wiring in wirings]
    if all(before < number for number, needs in enumerate(waits) for before in needs):
        return list(range(len(wirings)))
    users: list[list[int]] = [[] for _ in wirings]
    for number, needs in enumerate(waits):
        for before in needs:
            users[before].append(number)
    open_needs = [len(needs) for needs in waits]
    ready = [number for number, count in enumerate(open_needs) if count == 0]
    done: list[int] = []
    while ready:
        number = heapq.heappop(ready)
        done.append(number)
        for user in users[number]:
            open_needs[user] -= 1
            if open_needs[user] == 0:
                heapq.heappush(ready, user)
    if len(done) < len(wirings):
        _fail_circle(source, wirings, waits, set(done))
    return done


def _fail_circle(
    source: Source, wirings: Sequence[Wiring], waits: Sequence[set[int]], done: set[int]
) -> None:
    """Walk backwards among what waits until an operator comes again."""
    path, seen = [min(set(range(len(wirings))) - done)], set[int]()
    while path[-1] not in seen:
        seen.add(path[-1])
        path.append(min(waits[path[-1]] - done))
    circle = path[path.index(path[-1]) :][::-1]
    shown = " -> ".join(wirings[number].title for number in circle[:9])
    more = f" -> ... ({len(circle) - 1} operators)" if len(circle) > 9 else ""
    source.fail(wirings[circle[0]].place, f"waits for itself, must not: {shown}{more}")
