"""Whether ONNX Runtime is installed."""

from __future__ import annotations

import functools
import importlib.util

CURE = "pip install 'teflon-npu[onnx]'"
MISSING = "onnxruntime is not installed"


@functools.cache
def found() -> str:
    """Return the name of the package; empty if it is not installed. It is not imported."""
    try:
        return "onnxruntime" if importlib.util.find_spec("onnxruntime") is not None else ""
    except (ImportError, ValueError):  # a package that is only half there
        return ""
