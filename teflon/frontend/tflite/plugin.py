"""The frontend of TFLite files, as the entry point `tflite` of the group `teflon.frontends`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from teflon.errors import DriverUnavailable
from teflon.pipe import Data, Frontend, ModelFile, Source
from teflon.plugins import discover, hookimpl

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

    def resized_graph(self, shapes: Mapping[str, Sequence[int]]) -> Graph:
        """Return the graph with new shapes of inputs, by their names.

        Where operations are left that only a TFLite runtime knows, one must be installed. Raises
        OptionError for a name that no input has, ModelError for shapes that do not fit.
        """
        from teflon.frontend.tflite.reader import read_resized

        return read_resized(self.content, shapes, self.name, self._ask)

    def _ask(self, inputs: Mapping[int, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
        """Let a driver with a runtime for such files tell the shapes of tensors."""
        reasons = []
        for driver in discover().drivers.values():
            if "tflite" in driver.runs:
                try:
                    return driver.tensor_shapes(self.content, inputs)
                except DriverUnavailable as error:
                    reasons.append(str(error))
        raise DriverUnavailable(reasons[0] if reasons else "no driver has a TFLite runtime")


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
