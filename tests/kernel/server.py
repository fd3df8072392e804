"""A server of fake kernels for other processes: the counterpart of tests/kernel/kernel_shim.c.

    python -P tests/kernel/server.py FOLDER /dev/accel/accel0=rocket:rk3588 /dev/dri/renderD128=i915

makes the nodes below FOLDER and prints `ready`. A program that runs with the shim preloaded and
TEFLON_SHIM_ROOT=FOLDER sees them. FOLDER/control accepts one JSON object per line:

    {"do": "status"}                        open files, number of buffers, complaints
    {"do": "log"}                           requests since the last `faults`, with their results
    {"do": "faults", "rules": ["SUBMIT:2:EIO", "PREP_BO:1:EINTR:3", "CREATE_BO:1:+0.2"]}
    {"do": "trouble", "kind": "hang"}       jobs do not end until the trouble is "" again;
                                            "break": they fault half way, as on a reset of the chip

A rule is NAME:CALL:WHAT[:TIMES]. The CALL-th request of that name fails with an errno, or is late
by +SECONDS. Calls are counted from 1, from the moment when the rules are set. OPEN and MMAP are
names too. TEFLON_SHIM_FAULTS contains rules, separated by commas, that hold from the start.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from teflon.errors import SimulatorFault
from teflon_common.drm import GENERIC
from teflon_common.fake_drm import FakeFile, FakeKernel
from teflon_common.memory import DeviceMemory
from teflon_common.user_memory import caller_memory, refuse

OPEN, IOCTL, MMAP = range(3)
DONE, READ, WRITE = range(3)
REQUEST, ANSWER = struct.Struct("<IIQQ"), struct.Struct("<iiQQ")
CHUNK = 1 << 16


class Caller:
    """The memory of the process that waits for an answer on a reply socket."""

    def __init__(self, reply: socket.socket) -> None:
        self.reply = reply

    def read(self, pointer: int, size: int) -> bytes:
        return b"".join(
            self._asked(READ, at, b"", min(CHUNK, pointer + size - at))
            for at in range(pointer, pointer + size, CHUNK)
        )

    def write(self, pointer: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self._asked(WRITE, pointer + at, part, len(part))

    def _asked(self, kind: int, address: int, data: bytes, size: int) -> bytes:
        self.reply.send(ANSWER.pack(kind, 0, address, size) + data)
        got = self.reply.recv(CHUNK + 4)
        if len(got) < 4 or struct.unpack_from("<i", got)[0]:
            raise refuse(errno.EFAULT)
        return got[4:]


@dataclass
class Fault:
    """A fault of `times` requests of one name, beginning with number `call`."""

    name: str
    call: int
    code: int = 0
    delay: float = 0.0
    times: int = 1

    @staticmethod
    def of(text: str) -> Fault:
        name, call, what, *times = text.split(":")
        count = int(times[0]) if times else 1
        if what.startswith("+"):
            return Fault(name, int(call), delay=float(what), times=count)
        return Fault(name, int(call), code=getattr(errno, what), times=count)


class Faults:
    """The rules, and all requests since they were set."""

    def __init__(self, rules: list[str]) -> None:
        self._lock = threading.Lock()
        self.set(rules)

    def set(self, rules: list[str]) -> None:
        """Set new rules and count requests from 1 again."""
        with self._lock:
            self._rules = [Fault.of(rule) for rule in rules]
            self._counts: Counter[str] = Counter()
            self.log: list[list[Any]] = []

    def meet(self, name: str) -> None:
        """Count a request; if a rule matches it, wait or raise OSError."""
        with self._lock:
            self._counts[name] += 1
            call = self._counts[name]
            found = [f for f in self._rules if f.name == name and 0 <= call - f.call < f.times]
        for fault in found:
            time.sleep(fault.delay)
            if fault.code:
                raise refuse(fault.code)

    def note(self, name: str, result: int) -> None:
        self.log.append([name, result])


class Foreign(FakeKernel):
    """A kernel driver of another device: it only answers VERSION."""

    description = "another device"
    interface = GENERIC

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]


class Trouble:
    """What happens to all jobs from now on: "hang", "break" or "" (nothing)."""

    what = ""
    over = threading.Event()
    over.set()

    @classmethod
    def begin(cls, what: str) -> None:
        cls.what = what
        (cls.over.clear if what == "hang" else cls.over.set)()

    fault = SimulatorFault("trouble: the job stops half way, as the test requires")


class TroubledMachine:
    """An RK3588 whose tasks can hang, or whose jobs can stop after their first task."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        Trouble.over.wait()
        self._inner.run_task(regcmd_address, count, core, where)
        if Trouble.what == "break":
            raise Trouble.fault

    def __getattr__(self, name: str) -> Any:
        """All but running a task is the machine's own."""
        return getattr(self._inner, name)


def rocket(chip: str) -> FakeKernel:
    """Return a kernel with a simulated RK3588."""
    chips = importlib.import_module("teflon_rocket.chips").CHIPS
    machine = importlib.import_module("teflon_rocket.simulator.machine").Machine
    kernel = importlib.import_module("teflon_rocket.simulator.kernel").RocketKernel

    def troubled(memory: DeviceMemory) -> TroubledMachine:
        return TroubledMachine(machine(chips[chip], memory))

    return kernel(chips[chip], machine=troubled)  # type: ignore[no-any-return]


def etnaviv(chip: str) -> FakeKernel:
    """Return a kernel with a simulated NPU of VeriSilicon; `gpu`: a node with a GPU only."""
    chips = importlib.import_module("teflon_etnaviv.chips")
    made = troubled_etnaviv()(chips.chip("a311d" if chip == "gpu" else chip))
    if chip == "gpu":
        made.cores = (chips.Identity(0x7000, 0x6204, 0x70005, 0, 0),)
    return made  # type: ignore[no-any-return]


def troubled_etnaviv() -> Any:
    """Return the kernel's class with streams that can hang, or end after their first launch."""
    base: Any = importlib.import_module("teflon_etnaviv.simulator.kernel").EtnavivKernel

    class Troubled(base):  # type: ignore[misc]
        def _run(self, file: FakeFile, work: Any) -> None:
            Trouble.over.wait()
            half = len(work.stream) // 2 & ~7  # a command has two words
            broken = Trouble.what == "break"
            super()._run(file, replace(work, stream=work.stream[:half]) if broken else work)
            if broken:
                raise Trouble.fault

    return Troubled


KERNELS: dict[str, Callable[[str], FakeKernel]] = {"rocket": rocket, "etnaviv": etnaviv}


@dataclass
class Node:
    """A device node of this server."""

    path: str
    kernel: FakeKernel
    faults: Faults
    opens: int = 0
    files: list[FakeFile] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def status(self) -> dict[str, Any]:
        with self.lock:
            handles = [bo for file in self.files for bo in file.handles.values()]
            return {
                "opens": self.opens,
                "files": len(self.files),
                "handles": len(handles),
                "bytes": sum(bo.mapped_bytes for bo in handles),
                "complaints": self.kernel.complaints,
            }

    def serve(self, listener: socket.socket) -> None:
        """Accept connections, without end."""
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=Connection(self, connection).serve, daemon=True).start()


class Connection:
    """One open file of a node."""

    THREADS = 16

    def __init__(self, node: Node, connection: socket.socket) -> None:
        self.node, self.connection = node, connection
        self.file: FakeFile | None = None
        self._lock = threading.Lock()
        self._threads = self._waiting = 1

    def serve(self) -> None:
        """Answer requests until the last descriptor of the file is closed.

        While a request is answered another thread waits for the next one.
        """
        while True:
            message, passed, _, _ = socket.recv_fds(self.connection, CHUNK, 1)
            if not message or not passed:
                break
            self._follow()
            self._answer(message, socket.socket(fileno=passed[0]))
            with self._lock:
                self._waiting += 1
        with self._lock:
            self._threads -= 1
            last = self._threads == 0
        if last:
            self.connection.close()
            self._release()

    def _follow(self) -> None:
        """Start another thread, which waits for the next request."""
        with self._lock:
            self._waiting -= 1
            if self._waiting or self._threads == self.THREADS:
                return
            self._threads, self._waiting = self._threads + 1, 1
        threading.Thread(target=self.serve, daemon=True).start()

    def _release(self) -> None:
        if self.file is None:
            return
        self.node.kernel.release(self.file)
        with self.node.lock:
            self.node.files.remove(self.file)

    def _answer(self, message: bytes, reply: socket.socket) -> None:
        op, _, number, size = REQUEST.unpack_from(message)
        argument = bytearray(message[REQUEST.size :])
        name = self._name(op, number)
        result, passed, offset = 0, list[int](), 0
        with reply:
            try:
                self.node.faults.meet(name)
                if op == OPEN:
                    self._open()
                elif op == MMAP:
                    passed = [self._memory(number, size)]
                else:
                    result = self._ioctl(number, argument, Caller(reply))
            except OSError as error:
                result = -(error.errno or errno.EIO)
            self.node.faults.note(name, result)
            answer = ANSWER.pack(DONE, result, offset, len(argument)) + argument
            try:
                socket.send_fds(reply, [answer], passed)
            except OSError:
                return  # the program has ended

    def _name(self, op: int, number: int) -> str:
        if op != IOCTL:
            return "OPEN" if op == OPEN else "MMAP"
        found = self.node.kernel.interface.find(number)
        return found.name if found else f"{number:#x}"

    def _open(self) -> None:
        with self.node.lock:
            self.node.opens += 1
            self.file = self.node.kernel.open()
            self.node.files.append(self.file)

    def _opened(self) -> FakeFile:
        if self.file is None:
            raise refuse(errno.EBADF)
        return self.file

    def _memory(self, offset: int, size: int) -> int:
        bo = self.node.kernel.find_offset(self._opened(), offset)
        if not 0 < size <= bo.mapped_bytes or bo.file is None:
            raise refuse(errno.EINVAL)
        return bo.file.number

    def _ioctl(self, number: int, argument: bytearray, caller: Caller) -> int:
        try:
            with caller_memory(caller):
                return self.node.kernel.ioctl(self._opened(), number, argument)
        except SimulatorFault as fault:  # the real kernel reports nothing: the wait just ends
            self.node.kernel.complaints.append(str(fault))
            return 0


def make_kernel(spec: str) -> FakeKernel:
    """Return the kernel of `driver:chip`; for another text, a kernel with this name only."""
    name, _, chip = spec.partition(":")
    kernel = KERNELS[name](chip) if chip else Foreign(name)
    kernel.shares_memory = True
    return kernel


def bind(path: Path, kind: int) -> socket.socket:
    """Return a listening socket at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def control(listener: socket.socket, nodes: list[Node], faults: Faults) -> None:
    """Serve the control socket, with a thread for each connection."""

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                lines.write(json.dumps(obey(json.loads(line), nodes, faults)) + "\n")
                lines.flush()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def obey(order: dict[str, Any], nodes: list[Node], faults: Faults) -> Any:
    """Carry out a line of the control socket, and return the answer."""
    if order["do"] == "faults":
        faults.set(order["rules"])
        for node in nodes:
            node.kernel.complaints.clear()
    elif order["do"] == "trouble":
        Trouble.begin(order["kind"])
    elif order["do"] == "log":
        return faults.log
    return {node.path: node.status() for node in nodes}


def main(folder: str, *specs: str) -> None:
    """Serve until stdin ends."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))  # buffers are files
    root = Path(folder)
    faults = Faults([r for r in os.environ.get("TEFLON_SHIM_FAULTS", "").split(",") if r])
    nodes = []
    for spec in specs:
        path, _, kernel = spec.partition("=")
        nodes.append(Node(path, make_kernel(kernel), faults))
        listener = bind(root / path.lstrip("/"), socket.SOCK_SEQPACKET)
        threading.Thread(target=nodes[-1].serve, args=(listener,), daemon=True).start()
    orders = bind(root / "control", socket.SOCK_STREAM)
    threading.Thread(target=control, args=(orders, nodes, faults), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
