"""The frontend of TFLite files, as the entry point `tflite` of the group `teflon.frontends`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from teflon.pipe import Data, Frontend, ModelFile, Source
from teflon.plugins import hookimpl

if TYPE_CHECKING:  # `teflon devices` asks this plugin, and must not import numpy for that
    from teflon.ir.graph import Graph


class TfliteFile(ModelFile):
    """A .tflite file: mapped where it has a path; constants stay in the map."""

    def __init__(self, name: str, content: Data) -> None:
        self.name = name
        self.content = content

    def graph(self) -> Graph:
        """Return the graph of subgraph 0. Raises ModelError."""
        from teflon.frontend.tflite.reader import read

        return read(self.content, self.name)


class TfliteFrontend(Frontend):
    """Reads .tflite files; the reader is imported with the first one."""

    def sniff(self, head: bytes) -> bool:
        return head[4:8] == b"TFL3"

    def read(self, source: Source) -> TfliteFile:
        if isinstance(source, bytes):
            return TfliteFile("model.tflite", source)
        from teflon.frontend.mapped import map_file

        return TfliteFile(os.path.basename(os.fspath(source)), map_file(source, "a .tflite file"))


@hookimpl
def teflon_frontend() -> Frontend:
    """Describe the frontend."""
    return TfliteFrontend("tflite", "TensorFlow Lite", (".tflite",))
