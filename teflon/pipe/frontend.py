"""What a frontend plugin is: a reader of one model format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teflon.pipe.driver import INTERFACE_VERSION

if TYPE_CHECKING:
    from teflon.ir.graph import Graph
    from teflon.pipe.device import Data

Source = str | os.PathLike[str] | bytes
"""A model: the path of its file, or the file's content."""

_MISTAKEN = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"TEFLONMO": "a compiled model of `teflon compile`: it runs as it is",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\x1f\x8b": "gzip data: unpack it first",
    b"<": "text in angle brackets, perhaps a web page that was saved instead of the file",
}
"""How other things begin that are found under a model's name."""


def mistaken_for(head: bytes) -> str:
    """Return what a file that begins like this is, and the cure; empty where that is not known.

    For the messages of frontends: some things are often found where a model should be.
    """
    return next((text for start, text in _MISTAKEN.items() if head.startswith(start)), "")


class ModelFile(ABC):
    """An opened model. Opening reads as little as it can; `graph` reads the whole."""

    name: str
    """What messages and reports call the model: usually the file's name without its folder."""

    content: Data
    """The file's bytes, often a memory map. A program compiled from the graph depends on nothing
    else, so these bytes are the model's key in the compile cache. Constants of the graph should be
    views of them: the cache then keeps places instead of copies.
    """

    @abstractmethod
    def graph(self) -> Graph:
        """Return the verified graph. Raises ModelError where the file is malformed."""


@dataclass(frozen=True)
class Frontend(ABC):
    """What a plugin registers for a model format; describing itself must be cheap."""

    name: str
    summary: str
    suffixes: tuple[str, ...]
    """Endings of such files, with their dot and in lower case: `.tflite`."""
    interface: tuple[int, int] = INTERFACE_VERSION

    @abstractmethod
    def sniff(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (64, or all of a shorter file) is of this
        format. Fast, and never raises.
        """

    @abstractmethod
    def read(self, source: Source) -> ModelFile:
        """Open a model. Raises ModelError where it is not there, or is none of this format."""
