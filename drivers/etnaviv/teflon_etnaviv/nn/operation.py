"""The operation of the NN cores: one launch computes one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from teflon_etnaviv import cmdstream
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.cmdstream import Stream
from teflon_etnaviv.engine import Engine
from teflon_etnaviv.nn.coding import LayerCoding
from teflon_etnaviv.nn.engine import NN_CORES
from teflon_etnaviv.nn.instruction import compile_layer
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.operations import Compiled, Job, Work
from teflon_etnaviv.rounding import align


@dataclass(frozen=True, eq=False)
class NN(Work):
    """One launch of the NN cores. Two inputs, an addition's operands, lie one behind the other."""

    unit: ClassVar[str] = "NN"
    engine: ClassVar[Engine] = NN_CORES

    layer: Layer
    coding: LayerCoding

    def compile(self, chip: Chip) -> Compiled:
        made = compile_layer(self.layer, chip, self.coding)
        data = made.coefficients.data
        return Compiled((Job(made.instruction),), data, made.coefficients.size_bytes, len(data))

    def start(self, stream: Stream, places: Sequence[tuple[int, int]]) -> None:
        cmdstream.emit_nn(stream, places[0])

    def written_bytes(self, chip: Chip) -> int:
        """Count planes of kernels that do not exist, where the kernels do not fill the cores.

        Kernels are dealt out evenly, so some cores get one that is not there. Nobody has seen that
        they write a plane for it, nor that they do not.
        Ref: docs/hardware/etnaviv.md sections 7.1, 12 (question 5)
        """
        kernels = self.layer.out_channels
        return align(kernels, min(kernels, chip.nn_core_count)) * self.layer.plane_bytes
