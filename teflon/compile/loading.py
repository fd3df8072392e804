"""From a file to a graph, whatever its format."""

from __future__ import annotations

import os
from pathlib import Path

from teflon import trace
from teflon.errors import ModelError
from teflon.ir.graph import Graph

TEXT_SUFFIX = ".ir"


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """Return the verified graph of a .tflite file, or of a graph's text form (.ir).

    Raises ModelError for a file that is missing or cannot be read.
    """
    with trace.span("read", file=path):
        return _loaded(Path(path))


def _loaded(file: Path) -> Graph:
    if file.suffix == TEXT_SUFFIX:
        return _from_text(file)
    from teflon.frontend.tflite import reader as tflite

    return tflite.load(file)


def _from_text(file: Path) -> Graph:
    from teflon.ir.text import parse

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    graph = parse(text, str(file))
    if problems := list(graph.problems()):
        raise ModelError(f"{file}: {'; '.join(problems)}")
    return graph
