"""The NN cores as an engine: its instruction's addresses, and what a layer costs.

Ref: docs/hardware/etnaviv.md section 3.1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from teflon.pipe import Cost, Data
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.effort import of_nn
from teflon_etnaviv.engine import Address, Engine
from teflon_etnaviv.program import Launch

if TYPE_CHECKING:  # for estimates only
    from teflon_etnaviv.rates import Model


class NNCores(Engine):
    """Convolve and add; fed with coefficients."""

    instruction = NNInstruction
    code_role = "nn_config"
    constants_role = "coefficients"
    input = Address.of(NNInstruction, "in_image_address")
    output = Address.of(NNInstruction, "out_image_address")
    constants = Address.of(NNInstruction, "kernel_address")

    def cost(self, code: Data, launch: Launch, model: Model) -> Cost:
        """Bound by the MADs, or by the memory that coefficients, input and output go through."""
        effort = of_nn(NNInstruction.from_bytes(code), launch.coded, model)
        return Cost(name=launch.name, engine="nn", **vars(effort))


NN_CORES = NNCores()
