"""RESHAPE before FULLY_CONNECTED: the layer flattens by itself."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.lower import FoldFlatten, remove_dead
from teflon.ir.ops import FullyConnected, Reshape


def flattened(keep: bool = False, scale: float = 0.1, read_again: bool = False) -> Graph:
    b = Builder("flattened")
    x = b.input("x", "i8", (2, 3, 4, 5), 0.1, 3)
    flat = b.reshape(b.squeeze(b.reshape(x, (2, 1, 12, 5)), (1,)), (2, 60), scale=scale)
    data = np.arange(7 * 60, dtype=np.int32).reshape(7, 60) % 11 - 5
    how = {"weight_scale": 0.02, "scale": 0.3, "zero_point": -4, "keep_num_dims": keep}
    b.output(b.fully_connected(flat, data.astype(np.int8), **how))  # type: ignore[arg-type]
    if read_again:
        b.output(b.abs(flat))
    return b.build()


def folded(graph: Graph) -> Graph:
    return remove_dead(FoldFlatten()(graph)).verify()


def test_only_the_layer_is_left() -> None:
    graph = flattened()
    after = folded(graph)
    (layer,) = after.ops
    assert isinstance(layer, FullyConnected)
    assert layer.input is graph.inputs[0]
    data = np.random.default_rng(0).integers(-128, 128, (2, 3, 4, 5), np.int8)
    (want,), (have,) = interpreter.run(graph, [data]), interpreter.run(after, [data])
    np.testing.assert_array_equal(want, have)


def test_other_readers_keep_it() -> None:
    after = folded(flattened(read_again=True))
    assert [type(op) for op in after.ops].count(Reshape) == 2
    assert next(op for op in after.ops if isinstance(op, FullyConnected)).input.shape == (
        2,
        3,
        4,
        5,
    )


@pytest.mark.parametrize("how", [{"keep": True}, {"scale": 0.2}])
def test_what_stays(how: dict[str, float]) -> None:
    """Leading axes of the result, and another scale, come from the RESHAPE."""
    graph = flattened(**how)  # type: ignore[arg-type]
    assert FoldFlatten()(graph).ops == graph.ops


def test_refused_layers_stay() -> None:
    graph = flattened()
    assert FoldFlatten(lambda op: False)(graph) is graph
