"""Store inputs in buffers, and find out whether outputs were written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from teflon.errors import DeviceError
from teflon.ir.types import Array
from teflon_rocket.bodump import dump

if TYPE_CHECKING:
    from teflon_rocket.context import RocketExecutable


def store(executable: RocketExecutable, inputs: Sequence[Array]) -> None:
    """Convert the inputs straight into their buffers, and put canaries where the device must
    write.
    """
    for bo in executable.ours:
        bo.prepare()
    for canary in executable.canaries:  # first: an output may lie where an input is
        canary.put()
    ports = executable.program.input_ports
    for number, (port, array) in enumerate(zip(ports, inputs, strict=True)):
        memory = executable.buffers[port.buffer].memory
        port.store(array, memory)
        dump("input", executable.number, number, memory)
    for bo in executable.ours:
        bo.finish()


def unwritten(executable: RocketExecutable) -> DeviceError | None:
    """Return an error for the first output that the device has not written, None without one."""
    program = executable.program
    for number, (port, canary) in enumerate(
        zip(program.output_ports, executable.canaries, strict=True)
    ):
        dump("output", executable.number, number, executable.buffers[port.buffer].memory)
        if canary.alive():
            name = program.name_of(port)
            return DeviceError(
                f"rocket: output {number} {name!r} was not written by the device, must be (a job "
                "hung, read outside its buffers or was dropped: see the kernel log)"
            )
    return None
