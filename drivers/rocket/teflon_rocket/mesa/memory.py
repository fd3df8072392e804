# Ref: docs/hardware/rocket.md §5.4 (order of buffers), §4.3 (size of weights)
"""Mesa's memory: a buffer for each thing."""

from __future__ import annotations

from collections.abc import Sequence

from teflon.ir.graph import Graph
from teflon_common.program import Buffer
from teflon_rocket.memory import Content, Memory, Place, Thing, features, placed_parts, rooms
from teflon_rocket.mesa.coefs import weights_size
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.convolution import Convolution
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.program import COMMANDS, TENSOR


def apart(_graph: Graph, contents: Sequence[Content], parts: Sequence[Feature]) -> Memory:
    """Return constants, then feature maps, then command lists, each in a buffer of its own.

    Parts of feature maps, which Mesa does not have, lie where the whole does.
    """
    places: dict[Thing, Place] = {}
    buffers: list[Buffer] = []

    def add(thing: Thing, buffer: Buffer) -> None:
        places[thing] = Place(len(buffers))
        buffers.append(buffer)

    for op in (content.operation for content in contents):
        for constant in op.constants:
            size = _size(op, constant)
            add(constant, Buffer(constant.role, size, constant.data, op.name))
    operations = [content.operation for content in contents]
    every, sizes = features(operations), rooms(operations)
    divided = {f.root for f in every if f.whole is not None}
    for feature in dict.fromkeys(f.root for f in every):
        size = max(feature.size_bytes, sizes[feature] if feature in divided else 0)
        add(feature, Buffer(TENSOR, size, None, feature.name))
    places |= placed_parts([*every, *parts], places)
    for content in contents:
        data = content.lists.data
        add(content.lists, Buffer(COMMANDS, len(data), data, content.operation.name))
    return Memory(tuple(buffers), places)


def _size(op: Operation, constant: Constant) -> int:
    """Return the bytes that Mesa asks for: more than are filled for weights, else as many."""
    if isinstance(op, Convolution) and constant is op.weights:
        geometry = op.geometry
        return weights_size(geometry.kernels, geometry.taps, geometry.channels)
    return len(constant.data)
