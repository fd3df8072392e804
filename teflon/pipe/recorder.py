"""The second, optional interface of a driver's plugin: recordings of what went to the kernel."""

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

    The driver itself takes the option `record`: the file that a context writes when it is closed.
    """

    driver: str
    """The name of the driver whose recordings these are."""

    @abstractmethod
    def show(self, path: str, whole: bool = False) -> str:
        """Return what a recording is about; `whole`: every request and command list as text.

        Raises RecordingError.
        """

    @abstractmethod
    def from_trace(self, path: str) -> list[bytes]:
        """Return the recordings in a trace of `teflon intercept`, each as the bytes of its file:
        one for each node of this driver that something was submitted to.

        Raises RecordingError.
        """

    @abstractmethod
    def replay(self, path: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the submits of a recording on the simulated chip; return the outputs by name.

        `inputs` by name; those that are not given are as recorded. Raises RecordingError where the
        recording does not say what is needed, SimulatorFault.
        """
