"""Small float networks, each about one thing that files have; tests quantise them.

`NETS` maps a name to a function that returns the model. Inputs are named `x` (and `y`, `flag`).
"""

from __future__ import annotations

from tests.frontend.onnx import nets_single, nets_whole
from tests.frontend.onnx.netlist import NETS

__all__ = ["NETS", "nets_single", "nets_whole"]
