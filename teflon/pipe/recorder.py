"""The optional second interface of a driver's plugin: recordings of its requests to the kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teflon.ir.types import Array


@dataclass(frozen=True)
class Recorder(ABC):
    """Reads and replays recordings of one driver's requests.

    The driver itself has the option `record`: the file that a context writes when it is closed.
    """

    driver: str
    """The name of the driver whose recordings these are."""

    @abstractmethod
    def show(self, path: str, whole: bool = False) -> str:
        """Return a summary of a recording or, with `whole`, every request and command list.

        Raises RecordingError.
        """

    @abstractmethod
    def from_trace(self, path: str) -> list[bytes]:
        """Return the recordings in a trace of `teflon intercept`, each as the bytes of its file.

        There is one for each node of this driver to which the program submitted jobs. Raises
        RecordingError.
        """

    @abstractmethod
    def replay(self, path: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the submits of a recording on the simulated chip, and return the outputs by name.

        Inputs that are not given, by name, have their recorded content. Raises RecordingError if
        the recording lacks something that is needed, SimulatorFault.
        """
