"""The NN cores as an engine: its instruction's addresses, and what a layer costs.

Ref: docs/hardware/etnaviv.md section 3.1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from teflon.errors import ProgramError
from teflon.pipe import Cost, Data
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.effort import of_nn
from teflon_etnaviv.engine import Address, Engine
from teflon_etnaviv.program import NN_CODE, Launch

if TYPE_CHECKING:  # for estimates only
    from teflon_etnaviv.rates import Model


class NNCores(Engine):
    """Convolve and add; fed with coefficients."""

    instruction = NNInstruction
    code_role = NN_CODE
    constants_role = "coefficients"
    input = Address.of(NNInstruction, "in_image_address")
    output = Address.of(NNInstruction, "out_image_address")
    constants = Address.of(NNInstruction, "kernel_address")

    def cost(self, code: Data, launch: Launch, model: Model) -> Cost:
        """Bound by the MADs, or by the memory that coefficients, input and output go through.

        Raises ProgramError for an instruction that computes nothing.
        """
        nn = NNInstruction.from_bytes(code)
        if not (nn.out_image_tile_x_size and nn.out_image_tile_y_size and nn.out_image_z_size):
            raise ProgramError(
                f"etnaviv: {launch.name!r} has tiles or outputs of no size, must have some"
                " (compile the model again)"
            )
        return Cost(name=launch.name, engine="nn", **vars(of_nn(nn, launch.coded, model)))


NN_CORES = NNCores()
