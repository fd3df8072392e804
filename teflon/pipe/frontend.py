"""The description of a frontend: the reader of one model format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teflon.errors import OptionError
from teflon.pipe.driver import INTERFACE_VERSION

if TYPE_CHECKING:
    from teflon.ir.graph import Graph
    from teflon.pipe.device import Data

Source = str | os.PathLike[str] | bytes
"""A model: the path of its file, or the file's content."""

_MISTAKEN = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"TEFLONMO": "a compiled model of `teflon compile`: load it directly",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\x1f\x8b": "gzip data: unpack it first",
    b"<": "text in angle brackets, perhaps a web page that was saved instead of the file",
}
"""First bytes of files that are often mistaken for models -> what they are, and the cure."""


def mistaken_for(head: bytes) -> str:
    """Return what a file with these first bytes is, and the cure; empty if that is unknown.

    Messages about a file that is not a model use this.
    """
    return next((text for start, text in _MISTAKEN.items() if head.startswith(start)), "")


class ModelFile(ABC):
    """An opened model file. Opening reads as little as possible; `graph` reads everything."""

    name: str
    """The model's name in messages and reports: usually the file's name without its folder."""

    content: Data
    """The file's bytes, often a memory map. The graph must depend on these bytes alone: they are
    the model's key in the compile cache. Constants of the graph should be views of them: the cache
    then stores their places instead of copies.
    """

    @abstractmethod
    def graph(self) -> Graph:
        """Return the verified graph. Raises ModelError if the file is malformed."""

    def resized_graph(self, shapes: Mapping[str, Sequence[int]]) -> Graph:
        """Return the graph with new shapes of inputs, by their names.

        Raises OptionError for an input that is not there, or where shapes are fixed; ModelError
        for a shape that the model cannot take. Since 1.3.
        """
        raise OptionError(
            f"{self.name}: the shapes of its inputs are fixed, must be left as they are"
        )


@dataclass(frozen=True)
class Frontend(ABC):
    """The description of a model format, which its plugin returns. To make one must be cheap."""

    name: str
    summary: str
    suffixes: tuple[str, ...]
    """File name endings of this format, in lower case and with their dot: `.tflite`."""
    interface: tuple[int, int] = INTERFACE_VERSION

    @abstractmethod
    def sniff(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is of this format. Fast; never raises.

        `head` has 64 bytes, or all bytes of a shorter file.
        """

    @abstractmethod
    def read(self, source: Source) -> ModelFile:
        """Open a model. Raises ModelError if it is missing or has another format."""
