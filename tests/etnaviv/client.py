"""A program that makes its requests to the etnaviv kernel itself, and runs compiled models so."""

from __future__ import annotations

import ctypes
import errno
import mmap
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.pipe import Winsys
from teflon_common.fake_drm import FakeWinsys
from teflon_common.structs import Ioctl, Struct, pack_array
from teflon_etnaviv import chips, cmdstream, uapi
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import STREAM, EtnavivProgram
from teflon_etnaviv.simulator.kernel import EtnavivKernel

S = TypeVar("S", bound=Struct)
Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
BASE = 0x800000


def node(**options: Any) -> FakeWinsys:
    """Return an open file of a simulated A311D."""
    return FakeWinsys(EtnavivKernel(chips.chip("a311d"), **options))


def ask(winsys: Winsys, ioctl: Ioctl, argument: S) -> S:
    """Make a request; return the argument as the kernel leaves it. Raises OSError."""
    raw = bytearray(argument.pack())
    winsys.ioctl(ioctl.request, raw)
    return type(argument).unpack(raw)


def code(winsys: Winsys, ioctl: Ioctl, argument: Struct) -> str:
    """Return the name of the errno of a request, "" where it succeeds."""
    try:
        ask(winsys, ioctl, argument)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def new(winsys: Winsys, size: int = 4096, flags: int = uapi.BO_WRITE_COMBINE) -> int:
    """Return the handle of a new buffer."""
    return ask(winsys, uapi.GEM_NEW, uapi.GemNew(size=size, flags=flags)).handle


def view(winsys: Winsys, handle: int, size: int) -> Bytes:
    """Return the memory of a buffer."""
    offset = ask(winsys, uapi.GEM_INFO, uapi.GemInfo(handle=handle)).offset
    return np.frombuffer(winsys.mmap(offset, size), np.uint8)


def bo(handle: int, presumed: int = 0, flags: int = 3) -> uapi.SubmitBo:
    """Return an entry of a submit's list."""
    return uapi.SubmitBo(handle=handle, presumed=presumed, flags=flags)


class Submit:
    """A submit whose arrays stay alive."""

    def __init__(
        self,
        listed: Sequence[uapi.SubmitBo] = (),
        patches: Sequence[uapi.SubmitReloc] = (),
        samples: Sequence[uapi.SubmitPmr] = (),
        commands: bytes = b"",
        **fields: Any,
    ) -> None:
        self._kept = []
        values = {"nr_bos": len(listed), "nr_relocs": len(patches), "nr_pmrs": len(samples)}
        values["stream_size"] = len(commands)
        for name, data in (
            ("bos", pack_array(listed)),
            ("relocs", pack_array(patches)),
            ("pmrs", pack_array(samples)),
            ("stream", commands),
        ):
            kept = ctypes.create_string_buffer(bytes(data), max(len(data), 1))
            self._kept.append(kept)
            values[name] = ctypes.addressof(kept)
        self.argument = uapi.Submit(**{"flags": uapi.SUBMIT_SOFTPIN, **values, **fields})

    def send(self, winsys: Winsys) -> uapi.Submit:
        return ask(winsys, uapi.GEM_SUBMIT, self.argument)

    def code(self, winsys: Winsys) -> str:
        return code(winsys, uapi.GEM_SUBMIT, self.argument)


def soon(seconds: float = 20.0) -> dict[str, int]:
    """Return the fields of a deadline."""
    at = time.monotonic_ns() + int(seconds * 1e9)
    return {"sec": at // 10**9, "nsec": at % 10**9}


def wait_bo(winsys: Winsys, handle: int, op: int = uapi.PREP_READ, seconds: float = 20.0) -> None:
    """Wait for a buffer."""
    ask(winsys, uapi.GEM_CPU_PREP, uapi.GemCpuPrep(handle=handle, op=op, **soon(seconds)))


class Pages:
    """Whole pages of this process."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)
        self.bytes: Bytes = np.frombuffer(self._memory, np.uint8)
        self.pointer = self.bytes.ctypes.data


class Loaded:
    """A compiled program in buffers that lie one behind the other from BASE on.

    `user`: memory of the program in place of the buffer with this number.
    """

    def __init__(
        self, winsys: Winsys, program: EtnavivProgram, user: dict[int, Pages] | None = None
    ) -> None:
        self.winsys, self.program, self.user = winsys, program, user or {}
        self.handles: list[int] = []
        self.addresses: list[int] = []
        self.views: list[Bytes] = []
        at = BASE
        for number, buffer in enumerate(program.buffers):
            self._create(number, buffer.size)
            self.addresses.append(at)
            at += -(-buffer.size // 4096) * 4096
        addresses = np.array(self.addresses)
        for number, buffer in enumerate(program.buffers):
            if buffer.data is not None:
                data = self._filled(bytes(buffer.data), number, addresses)
                self.views[number][: len(data)] = np.frombuffer(data, np.uint8)
        self.stream = self._filled(bytes(program.stream), STREAM, addresses)
        Submit(commands=cmdstream.init_stream()).send(winsys)

    def _create(self, number: int, size: int) -> None:
        if (pages := self.user.get(number)) is not None:
            request = uapi.GemUserptr(user_ptr=pages.pointer, user_size=len(pages.bytes), flags=3)
            self.handles.append(ask(self.winsys, uapi.GEM_USERPTR, request).handle)
            self.views.append(pages.bytes)
            return
        self.handles.append(new(self.winsys, size))
        self.views.append(view(self.winsys, self.handles[-1], size))

    def _filled(self, data: bytes, number: int, addresses: npt.NDArray[np.int64]) -> bytes:
        if (patches := self.program.patches.get(number)) is None:
            return data
        words = np.frombuffer(data, "<u4", len(data) // 4).copy()
        words[patches.words] = patches.apply(words, addresses)
        return words.tobytes() + data[words.nbytes :]

    def listed(self) -> list[uapi.SubmitBo]:
        """Return the list of buffers for a submit that chooses the addresses."""
        return [
            bo(self.handles[number], self.addresses[number], flags)
            for number, flags in self.program.bos
        ]

    def store(self, x: npt.NDArray[Any]) -> None:
        (port,) = self.program.input_ports
        port.place(self.views[port.buffer]).store(x)

    def fetch(self) -> npt.NDArray[Any]:
        """Wait, and return the output."""
        (port,) = self.program.output_ports
        wait_bo(self.winsys, self.handles[port.buffer])
        kind = port.type
        return port.place(self.views[port.buffer]).fetch(np.empty(kind.shape, kind.dtype.numpy))

    def relocs(self) -> list[uapi.SubmitReloc]:
        """Return the relocations of the stream, as indices of the list."""
        index = {number: n for n, (number, _) in enumerate(self.program.bos)}
        patches = self.program.patches[STREAM]
        return [
            uapi.SubmitReloc(submit_offset=4 * word, reloc_idx=index[target], reloc_offset=addend)
            for word, target, addend in zip(
                patches.words.tolist(), patches.targets.tolist(), patches.addends.tolist(),
                strict=True,
            )
        ]  # fmt: skip

    def send(self, **fields: int) -> uapi.Submit:
        return self.submit(**fields).send(self.winsys)

    def submit(self, **fields: Any) -> Submit:
        """Return the submit that runs the program, at the addresses of its buffers."""
        return Submit(self.listed(), commands=self.stream, **fields)


def graph(size: int = 12) -> Graph:
    b = Builder("small")
    x = b.input("x", "u8", (1, size, size, 8), scale=0.02, zero_point=7)
    weights = np.random.default_rng(1).integers(0, 256, (16, 3, 3, 8), np.uint8)
    y = b.conv2d(x, weights, weight_scale=0.01, weight_zero_point=90, scale=0.5, zero_point=100)
    b.output(b.relu(y, scale=0.5, zero_point=100))
    return b.build()


def compiled() -> tuple[EtnavivProgram, Array, Array]:
    """Return a program, an input, and what the reference makes of it."""
    made = graph()
    x = np.random.default_rng(5).integers(0, 256, (1, 12, 12, 8)).astype(np.uint8)
    (want,) = interpreter.run(made, [x])
    return EtnavivDevice("a311d").compile(made), x, want


def close(have: Array, want: Array) -> bool:
    return bool(np.abs(have.astype(int) - want).max() <= 1)
