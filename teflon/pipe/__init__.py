"""The interfaces of plugins: drivers, recorders of their requests, frontends for model formats.

They follow Mesa's Gallium. A `Device` describes a chip and compiles for it without any hardware. A
`Context` is one opened device and runs programs. A `Winsys` is the access to a kernel, real or
fake. Frontends use these interfaces and the IR, never a driver; drivers use the same, never a
frontend. A plugin may import every name in `__all__`.
"""

from teflon.pipe.context import Context, Executable, Fence, Winsys
from teflon.pipe.device import HOST, MEMORY, Cost, Data, Device, Program
from teflon.pipe.driver import INTERFACE_VERSION, Driver, Node, Option
from teflon.pipe.frontend import Frontend, ModelFile, Source, mistaken_for
from teflon.pipe.kernel import Caller, Complaints, Kernel, OpenFile, VirtualNode, refuse
from teflon.pipe.recorder import Recorder
from teflon.pipe.timeline import Clock, Schedule, Timeline

__all__ = [
    "HOST",
    "INTERFACE_VERSION",
    "MEMORY",
    "Caller",
    "Clock",
    "Complaints",
    "Context",
    "Cost",
    "Data",
    "Device",
    "Driver",
    "Executable",
    "Fence",
    "Frontend",
    "Kernel",
    "ModelFile",
    "Node",
    "OpenFile",
    "Option",
    "Program",
    "Recorder",
    "Schedule",
    "Source",
    "Timeline",
    "VirtualNode",
    "Winsys",
    "mistaken_for",
    "refuse",
]
