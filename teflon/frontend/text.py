"""The frontend of the IR's text form (`.ir`), which `teflon dump` prints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from teflon.errors import ModelError
from teflon.pipe import Data, Frontend, ModelFile, Source
from teflon.plugins import hookimpl

if TYPE_CHECKING:  # `teflon devices` asks this plugin, and must not import numpy for that
    from teflon.ir.graph import Graph


class TextFile(ModelFile):
    """An opened file with a graph's text; messages call it `path`."""

    def __init__(self, path: str, content: Data) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.content = content

    def graph(self) -> Graph:
        """Return the verified graph. Raises ModelError with line and column."""
        from teflon.ir.text import parse

        try:
            text = str(self.content, "utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.path}: cannot be read: {error}") from error
        graph = parse(text, self.path, verify=True)
        if problems := list(graph.problems()):
            raise ModelError(f"{self.path}: {'; '.join(problems)}")
        return graph


class TextFrontend(Frontend):
    """The reader of the IR's text form."""

    def sniff(self, head: bytes) -> bool:
        return head.lstrip().startswith(b'graph "')

    def read(self, source: Source) -> TextFile:
        if isinstance(source, bytes):
            return TextFile("text", source)
        from teflon.frontend.mapped import map_file

        return TextFile(os.fsdecode(source), map_file(source, "the text of a graph"))


@hookimpl
def teflon_frontend() -> Frontend:
    """Return the description of this frontend."""
    return TextFrontend("text", "the text form of a graph", (".ir",))
