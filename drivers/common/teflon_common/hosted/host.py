"""A runtime as the shared parts of drivers see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from teflon.ir.graph import Cut
from teflon.ir.held import HELD
from teflon.ir.types import Array
from teflon.pipe import Data

Name = int | str
"""How a runtime calls a tensor: its number, or its name; HELD is no tensor."""


def tensors(names: Sequence[Name]) -> list[Name]:
    """Return the names that a runtime knows: all but HELD."""
    return [name for name in names if name != HELD]


class HostError(Exception):
    """The runtime refuses a model or fails; the text is its own words, in one line."""


class Session(ABC):
    """One model that a runtime has opened. One thread uses it at a time."""

    @abstractmethod
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs as new arrays. Raises HostError."""


class Host(ABC):
    """A runtime that is installed, with the settings of one device."""

    @abstractmethod
    def open(self, content: Data, inputs: Sequence[Name], outputs: Sequence[Name]) -> Session:
        """Open a model. Raises HostError."""

    @abstractmethod
    def complaint(self, cut: Cut, odd: bool) -> str:
        """Return why the runtime does not run a model: one clause; empty if it does.

        `odd` models may make the runtime end its process, and are tried in another one.
        """
