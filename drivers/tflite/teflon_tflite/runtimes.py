"""Which TFLite runtimes are installed; finding one imports none."""

from __future__ import annotations

import functools
import importlib.util

RUNTIMES = ("ai_edge_litert", "tflite_runtime", "tensorflow")
"""Packages with an interpreter, the preferred one first."""

CURE = "pip install 'teflon-npu[tflite]'"
MISSING = "no TFLite runtime is installed"


@functools.cache
def found() -> str:
    """Return the name of the package that is used; empty if none is installed."""
    for name in RUNTIMES:
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except (ImportError, ValueError):  # a package that is only half there
            continue
    return ""
