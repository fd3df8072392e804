"""The list of small float networks, and how most of them begin."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from tests.frontend.onnx.builder import Net

Maker = Callable[[], onnx.ModelProto]
NETS: dict[str, Maker] = {}

IMAGE = (1, 6, 11, 13)
"""Of different height and width, and no multiple of anything."""


def net(function: Maker) -> Maker:
    """Add a maker to `NETS`."""
    NETS[function.__name__] = function
    return function


def image(
    name: str, opset: int = 17, shape: tuple[int | str | None, ...] = IMAGE
) -> tuple[Net, str]:
    n = Net(name, opset)
    return n, n.input("x", shape)
