"""All kinds of tasks that are modelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .convolution.engine import ConvolutionEngine
from .engine import Engine
from .passes.engine import PassEngine
from .pooling.engine import PoolingEngine

ENGINES: Mapping[int, type[Engine[Any]]] = {
    engine.mask(): engine for engine in (ConvolutionEngine, PassEngine, PoolingEngine)
}
"""By the mask of units in the enable word."""
