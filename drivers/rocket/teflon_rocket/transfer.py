"""Store inputs in buffers, fetch outputs, and find out whether the device wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from teflon.errors import DeviceError
from teflon.ir.types import Array
from teflon_common.context import LoadedProgram
from teflon_rocket.bodump import dump
from teflon_rocket.buffers import BufferObject
from teflon_rocket.canary import Canary
from teflon_rocket.program import Port, RocketProgram


class Transfers(LoadedProgram[RocketProgram, BufferObject]):
    """The part of a loaded program that moves its inputs and outputs."""

    def find_ends(self) -> None:
        """Find the buffers of inputs and outputs, once all buffers exist."""
        outputs, inputs = self.program.output_ports, self.program.input_ports
        self.canaries = [Canary(p, self.buffers[p.buffer].memory) for p in outputs]
        self.waited = self._buffers_of(outputs)
        self.ours = self._buffers_of((*outputs, *inputs))  # outputs first

    def _buffers_of(self, ports: Iterable[Port]) -> list[BufferObject]:
        return [self.buffers[number] for number in dict.fromkeys(port.buffer for port in ports)]

    def store(self, inputs: Sequence[Array]) -> None:
        """Convert the inputs straight into their buffers, and put canaries where the device must
        write.
        """
        for bo in self.ours:
            bo.prepare()
        for canary in self.canaries:  # first: an output may lie where an input is
            canary.put()
        for number, (port, array) in enumerate(zip(self.program.input_ports, inputs, strict=True)):
            memory = self.buffers[port.buffer].memory
            port.store(array, memory)
            dump("input", self.number, number, memory)
        for bo in self.ours:
            bo.finish()

    def unwritten(self) -> DeviceError | None:
        """Return an error for the first output that the device did not write, else None."""
        ports = self.program.output_ports
        for number, (port, canary) in enumerate(zip(ports, self.canaries, strict=True)):
            dump("output", self.number, number, self.buffers[port.buffer].memory)
            if canary.alive():
                name = self.program.name_of(port)
                return DeviceError(
                    f"rocket: output {number} {name!r} was not written by the device, must be (a "
                    "job hung, read outside its buffers or was dropped: see the kernel log)"
                )
        return None

    def fetch(self) -> list[Array]:
        ports = self.program.output_ports
        return [
            port.fetch(self.buffers[port.buffer].memory, results.take())
            for port, results in zip(ports, self.results, strict=True)
        ]

    def free(self) -> None:
        self.canaries, self.waited, self.ours = [], [], []  # they hold views of the memory
        super().free()
