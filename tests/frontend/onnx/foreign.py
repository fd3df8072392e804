"""Quantised networks written by hand, as tools other than onnxruntime write them.

`MODELS` maps a name to a function that returns the model.
"""

from __future__ import annotations

from tests.frontend.onnx import foreign_forms, foreign_tools
from tests.frontend.onnx.handmade import MODELS

__all__ = ["MODELS", "foreign_forms", "foreign_tools"]
