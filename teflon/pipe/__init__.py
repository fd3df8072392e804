"""The interfaces between the rooms: what a driver, a recorder and a frontend are to all others.

Gallium's idea in its newest form: a `Device` is a chip's description and compiles without any
hardware; a `Context` is one opened device and executes; a `Winsys` is the way to a kernel, real or
fake. A `Frontend` knows these interfaces and the IR, never a driver; a driver knows the same, never
a frontend. Everything that a plugin may import from here stands in `__all__`.
"""

from teflon.pipe.context import Context, Executable, Fence, Winsys
from teflon.pipe.device import HOST, MEMORY, Cost, Data, Device, Program
from teflon.pipe.driver import INTERFACE_VERSION, Driver, Node, Option
from teflon.pipe.frontend import Frontend, ModelFile, Source, mistaken_for
from teflon.pipe.recorder import Recorder
from teflon.pipe.timeline import Clock, Schedule, Timeline

__all__ = [
    "HOST",
    "INTERFACE_VERSION",
    "MEMORY",
    "Clock",
    "Context",
    "Cost",
    "Data",
    "Device",
    "Driver",
    "Executable",
    "Fence",
    "Frontend",
    "ModelFile",
    "Node",
    "Option",
    "Program",
    "Recorder",
    "Schedule",
    "Source",
    "Timeline",
    "Winsys",
    "mistaken_for",
]
