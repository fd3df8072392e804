# Ref: docs/hardware/rocket.md §2.2 (buffer lists, addresses), §4.1, §6.3 (what is written), §10.2
"""Where everything lies: a buffer for each kind of constants, and four for the rest.

Those are inputs, an arena of what lives between operations, outputs, command lists. Inputs and
outputs are not in the arena because the CPU synchronises whole buffers: it must not walk through
the arena's cache lines at every inference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from teflon.ir.graph import Graph
from teflon_common.arena import Arena, Lifetime, Pool, lower_bound, place, row
from teflon_common.layout import LANES
from teflon_common.program import Buffer
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.lists import CommandLists
from teflon_rocket.program import COMMANDS, TENSOR

Thing = Feature | Constant | CommandLists
"""What needs a place, and what an address can point to."""


class Place(NamedTuple):
    """A buffer by its index, and a byte offset in it."""

    buffer: int
    offset: int = 0


class Content(NamedTuple):
    """An operation and its command lists."""

    operation: Operation
    lists: CommandLists

    @property
    def moved(self) -> int:
        """Bytes that its tasks read and write in memory."""
        return self.operation.moved + 8 * self.lists.words


@dataclass(frozen=True)
class Memory:
    """The buffers of a program, and where in them everything lies.

    sizes: what planning was about, for statistics.
    """

    buffers: tuple[Buffer, ...]
    places: Mapping[Thing, Place]
    sizes: Mapping[str, int] = field(default_factory=dict)


def features(operations: Sequence[Operation]) -> list[Feature]:
    """Return the feature maps of some operations, each once, as they come up."""
    return list(dict.fromkeys(feature for op in operations for feature in op.features))


def together(graph: Graph, contents: Sequence[Content], parts: Sequence[Feature]) -> Memory:
    """Return few buffers; equal constants are kept once.

    parts: further feature maps that are parts of those that operations touch.
    """
    operations = [content.operation for content in contents]
    places: dict[Thing, Place] = {}
    buffers: list[Buffer] = []
    for pool, constants in _pools(operations):
        places |= _placed(len(buffers), constants, pool.offsets)
        buffers.append(pool.buffer)
    every = [*features(operations), *parts]
    sizes = rooms(operations)
    lives = lifetimes(operations, sizes)
    groups = _grouped(graph, lives, every)
    for name, group, arena in groups:
        if group:
            places |= _placed(len(buffers), group, arena.offsets)
            buffers.append(Buffer(TENSOR, arena.peak, None, name))
    lists = Pool(COMMANDS)
    for content in contents:
        lists.add(content.lists.data, len(content.lists.data), once=False)
    places |= _placed(len(buffers), [content.lists for content in contents], lists.offsets)
    places |= placed_parts(every, places)
    _, between, arena = groups[1]
    return Memory(
        buffers=(*buffers, lists.buffer),
        places=places,
        sizes={
            "arena_bytes": arena.peak,
            "arena_bound": lower_bound([lives[f] for f in between]),
            "feature_bytes": sum(f.size_bytes for f in sizes),
        },
    )


def _placed(buffer: int, things: Sequence[Thing], offsets: Sequence[int]) -> dict[Thing, Place]:
    return {thing: Place(buffer, offset) for thing, offset in zip(things, offsets, strict=True)}


def placed_parts(every: Sequence[Feature], places: Mapping[Thing, Place]) -> dict[Thing, Place]:
    """Return where those feature maps lie that are parts of others."""
    found: dict[Thing, Place] = {}
    for feature in every:
        if feature.whole is not None:
            buffer, offset = places[feature.whole]
            found[feature] = Place(buffer, offset + feature.start)
    return found


def _pools(operations: Sequence[Operation]) -> Iterator[tuple[Pool, list[Constant]]]:
    """Yield for each role of constants what is in its buffer, and where."""
    by_role: dict[str, list[Constant]] = {}
    for op in operations:
        for constant in op.constants:
            by_role.setdefault(constant.role, []).append(constant)
    for role, constants in by_role.items():
        pool = Pool(role)
        for constant in constants:
            pool.add(constant.data, constant.room)
        yield pool, constants


def _grouped(
    graph: Graph, lives: Mapping[Feature, Lifetime], every: Sequence[Feature]
) -> tuple[tuple[str, list[Feature], Arena], ...]:
    """Return inputs, what lies between operations, and outputs: name, feature maps, offsets.

    A map that has a part in `every` which is an output is an output too.
    """
    both = (*every, *lives)  # operations may name the parts of a map and not the map
    given = {f.root for f in both if f.value in graph.inputs}
    wanted = {f.root for f in both if f.value in graph.outputs}
    inputs = [f for f in lives if f in given]
    outputs = [f for f in lives if f in wanted and f not in given]
    between = [f for f in lives if f not in inputs and f not in outputs]
    return (
        ("inputs", inputs, row([lives[f].size for f in inputs])),
        ("arena", between, place([lives[f] for f in between])),
        ("outputs", outputs, row([lives[f].size for f in outputs])),
    )


def lifetimes(
    operations: Sequence[Operation], sizes: Mapping[Feature, int]
) -> dict[Feature, Lifetime]:
    """Return from which to which operation each feature map must be kept, parts with the whole."""
    steps: dict[Feature, list[int]] = {f: [] for f in sizes}
    for number, op in enumerate(operations):
        for feature in op.features:
            steps[feature.root].append(number)
    return {f: Lifetime(sizes[f], min(found), max(found)) for f, found in steps.items()}


def rooms(operations: Sequence[Operation]) -> dict[Feature, int]:
    """Return the bytes of each feature map with a place of its own that operations may touch; at
    least the whole map, as the host fills it.
    """
    ends: Counter[Feature] = Counter()
    for op in operations:
        for feature in op.features:
            root, surfaces = feature.root, op.surfaces(feature)
            ends[root] = max(ends[root], _end(root, root.surfaces), _end(feature, surfaces))
    return {
        f: f.size_bytes if f.layout == "rows" else (f.shape[0] - 1) * f.image_bytes + end
        for f, end in ends.items()
    }


def _end(feature: Feature, surfaces: int) -> int:
    """Return the bytes from the beginning of the whole map to the end of so many surfaces."""
    pixels = max(feature.surface_pixels, math.prod(feature.shape[1:3]))
    return feature.start + (surfaces - 1) * feature.surface_bytes + pixels * LANES
