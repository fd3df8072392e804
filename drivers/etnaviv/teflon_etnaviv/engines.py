"""The chip's engines, by the role of the buffers that hold their instructions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from teflon_etnaviv.engine import Engine
from teflon_etnaviv.nn.engine import NN_CORES
from teflon_etnaviv.tp.engine import TP_CORES

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {engine.code_role: engine for engine in (NN_CORES, TP_CORES)}
)
