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
