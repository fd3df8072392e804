"""The models of the recordings, cut as the recorded driver got them; what is known of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from teflon.ir.graph import Graph, Op
from teflon_common.recording import Recording
from tests.paths import GOLDEN, MODELS


def expected_failures(path: Path) -> list[str]:
    """The lines of an expectation file, comments aside."""
    return [line for line in path.read_text().splitlines() if line and line[0] != "#"]


def other_loader() -> Any:
    """The loader that lies beside the recordings: written by somebody else."""
    assert GOLDEN is not None
    spec = importlib.util.spec_from_file_location("golden_recording", GOLDEN / "recording.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model_path(name: str) -> Path:
    """The model file of a recording."""
    assert GOLDEN is not None
    assert MODELS is not None
    path = GOLDEN / "models" / f"{name}.tflite"
    return path if path.exists() else MODELS / f"{name}.tflite"


def model_bytes(name: str) -> bytes:
    """Its content."""
    return model_path(name).read_bytes()


def partitions(recording: Recording, graph: Graph) -> list[Graph]:
    """The subgraphs that the recorded driver was given."""
    by_outputs = {tuple(v.index for v in op.results): op for op in graph.ops}
    found: list[list[Op]] = [
        [by_outputs[tuple(op["outputs"])] for op in part]
        for part in recording.meta["teflon_partitions"]
    ]
    return [graph.subgraph(ops) for ops in found]
