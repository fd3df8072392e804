# Ref: docs/hardware/rocket.md §2.2 (buffer lists, addresses), §4.1, §6.3 (what is written), §10.2
"""Where everything lies: in a buffer for each thing as with Mesa, or in six for a whole program.

Six: weights, biases (equal ones once), inputs, an arena of what lives between operations, outputs,
command lists. Inputs and outputs are not in the arena because the CPU synchronises whole buffers:
it must not walk through the arena's cache lines at every inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon_common.arena import Arena, Lifetime, Pool, lower_bound, place, row
from teflon_common.layout import LANES
from teflon_common.program import Buffer
from teflon_rocket import coefs
from teflon_rocket.operation import Feature, Operation

_BIAS_BYTES = 4


@dataclass(frozen=True)
class Place:
    """A buffer by its index, and a byte offset in it."""

    buffer: int
    offset: int = 0


@dataclass(frozen=True)
class Content:
    """What an operation brings along: packed weights, biases, command lists with addresses 0."""

    op: Operation
    weights: Array
    lists: Array

    @property
    def biases(self) -> bytes:
        return bytes(self.op.bias.astype("<i4").tobytes())


@dataclass(frozen=True)
class Memory:
    """The buffers of a program, and where each operation's and each tensor's bytes lie in them.

    sizes: what planning was about, for statistics.
    """

    buffers: tuple[Buffer, ...]
    weights: tuple[Place, ...]
    biases: tuple[Place, ...]
    lists: tuple[Place, ...]
    tensors: dict[Feature, Place]
    sizes: dict[str, int] = field(default_factory=dict)


def features(operations: Sequence[Operation]) -> list[Feature]:
    """Return the feature maps: per operation input, output, operand, as they come up."""
    order: dict[Feature, None] = {}
    for op in operations:
        order[op.input] = order[op.output] = None
        if op.operand is not None:
            order[op.operand.feature] = None
    return list(order)


def apart(_graph: Graph, contents: Sequence[Content]) -> Memory:
    """Return Mesa's memory: weights and biases, then tensors, then lists, all for themselves."""
    buffers: list[Buffer] = []
    for content in contents:
        op = content.op
        size = coefs.weights_size(op.kernels, op.taps, op.channels)
        buffers.append(Buffer("weights", size, content.weights.tobytes(), op.name))
        buffers.append(Buffer("biases", op.out_channels * _BIAS_BYTES, content.biases, op.name))
    maps = features([content.op for content in contents])
    tensors = {feature: Place(len(buffers) + n) for n, feature in enumerate(maps)}
    buffers += [Buffer("tensor", f.size_bytes, None, f.name) for f in maps]
    lists = tuple(Place(len(buffers) + n) for n in range(len(contents)))
    buffers += [Buffer("regcmd", c.lists.nbytes, c.lists.tobytes(), c.op.name) for c in contents]
    return Memory(
        buffers=tuple(buffers),
        weights=tuple(Place(2 * n) for n in range(len(contents))),
        biases=tuple(Place(2 * n + 1) for n in range(len(contents))),
        lists=lists,
        tensors=tensors,
    )


def together(graph: Graph, contents: Sequence[Content]) -> Memory:
    """Return six buffers, or fewer where one would be empty."""
    operations = [content.op for content in contents]
    weights, biases, lists = Pool("weights"), Pool("biases"), Pool("regcmd")
    for content in contents:
        op = content.op
        weights.add(content.weights.tobytes(), op.weight_bytes)
        biases.add(content.biases, op.padded_out_channels * _BIAS_BYTES)
        lists.add(content.lists.tobytes(), content.lists.nbytes, once=False)
    sizes = rooms(operations)
    ends = {f: f.value for f in sizes}
    inputs = [f for f in sizes if ends[f] in graph.inputs]
    outputs = [f for f in sizes if ends[f] in graph.outputs and f not in inputs]
    between = [f for f in sizes if f not in inputs and f not in outputs]
    lives = lifetimes(operations, sizes)
    arena = place([lives[f] for f in between])
    groups: tuple[tuple[str, list[Feature], Arena], ...] = (
        ("inputs", inputs, row([sizes[f] for f in inputs])),
        ("arena", between, arena),
        ("outputs", outputs, row([sizes[f] for f in outputs])),
    )
    buffers, tensors = [weights.buffer, biases.buffer], dict[Feature, Place]()
    for name, group, placed in groups:
        if group:
            places = (Place(len(buffers), offset) for offset in placed.offsets)
            tensors.update(zip(group, places, strict=True))
            buffers.append(Buffer("tensor", placed.peak, None, name))
    return Memory(
        buffers=(*buffers, lists.buffer),
        weights=tuple(Place(0, offset) for offset in weights.offsets),
        biases=tuple(Place(1, offset) for offset in biases.offsets),
        lists=tuple(Place(len(buffers), offset) for offset in lists.offsets),
        tensors=tensors,
        sizes={
            "arena_bytes": arena.peak,
            "arena_bound": lower_bound([lives[f] for f in between]),
            "feature_bytes": sum(f.size_bytes for f in sizes),
        },
    )


def lifetimes(
    operations: Sequence[Operation], sizes: dict[Feature, int]
) -> dict[Feature, Lifetime]:
    """Return from which to which operation each feature map must be kept."""
    steps: dict[Feature, list[int]] = {f: [] for f in sizes}
    for number, op in enumerate(operations):
        for feature in features([op]):
            steps[feature].append(number)
    return {f: Lifetime(sizes[f], min(found), max(found)) for f, found in steps.items()}


def rooms(operations: Sequence[Operation]) -> dict[Feature, int]:
    """Return the bytes of each feature map that its operations may touch.

    The DPU writes channels padded to 32 or 64, and reads an addition's operand so: what lies
    behind a tensor's own surfaces is never used, but must be mapped and nobody else's.
    """
    surfaces: Counter[Feature] = Counter()
    for feature in features(operations):
        surfaces[feature] = -(-feature.shape[3] // LANES)
    for op in operations:
        touched = [op.output] if op.operand is None else [op.output, op.operand.feature]
        for feature in touched:
            padded = op.surface + op.padded_out_channels // LANES
            surfaces[feature] = max(surfaces[feature], padded)
    return {
        f: f.size_bytes
        if f.layout == "rows"
        else (f.shape[0] - 1) * f.image_bytes + count * f.surface_bytes
        for f, count in surfaces.items()
    }
