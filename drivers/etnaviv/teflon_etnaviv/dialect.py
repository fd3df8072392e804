"""What recordings need to know about etnaviv: its requests, streams and instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from teflon_common.caller import Reader, copy_from_user
from teflon_common.drm import GEM_CLOSE
from teflon_common.recording import Bytes, Dialect, NewBuffer, Pointer, Recording, place_name
from teflon_common.structs import Ioctl, Struct
from teflon_etnaviv import states, uapi
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_etnaviv.engine import Address
from teflon_etnaviv.engines import ENGINES
from teflon_etnaviv.nn.engine import NN_CORES
from teflon_etnaviv.program import ADDR32
from teflon_etnaviv.states import PS
from teflon_etnaviv.tp.engine import TP_CORES

# Ref: docs/hardware/etnaviv.md sections 2.2, 2.5, 3.1, 3.2

_LAUNCHES = {
    PS.NN_INST_ADDR.offset: NN_CORES.code_role,
    PS.TP_INST_ADDR.offset: TP_CORES.code_role,
}
_LOW_BITS = 0x1F
S = TypeVar("S", bound=Struct)


class EtnavivDialect(Dialect):
    """Etnaviv's requests; commands are states of a stream and the instructions they start."""

    interface = uapi.ETNAVIV
    command_bytes = 4

    def entry(
        self, ioctl: Ioctl, argument: Struct, read: Reader = copy_from_user
    ) -> dict[str, Any]:
        if isinstance(argument, uapi.Submit):
            return _submit_entry(argument, read)
        if names := _LOGGED.get(ioctl.name):
            return {name: argument.values()[name] for name in names}
        return {}

    def created(self, ioctl: Ioctl, argument: Struct) -> NewBuffer | None:
        if isinstance(argument, uapi.GemUserptr):
            return NewBuffer(argument.handle, argument.user_size, None, None, argument.user_ptr)
        if not isinstance(argument, uapi.GemNew):
            return None
        return NewBuffer(argument.handle, argument.size, None, None)

    def mapped(self, ioctl: Ioctl, argument: Struct) -> tuple[int, int] | None:
        if not isinstance(argument, uapi.GemInfo):
            return None
        return argument.handle, argument.offset

    def placed(self, entry: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
        if not entry["flags"] & uapi.SUBMIT_SOFTPIN:
            return []  # the kernel chooses, and tells nobody
        return [(handle, address) for handle, _, address in entry["bos"]]

    def stream(self, ioctl: Ioctl, argument: Struct, read: Reader = copy_from_user) -> bytes | None:
        if not isinstance(argument, uapi.Submit):
            return None
        return _read(read, argument.stream, argument.stream_size)

    def nested(self, role: str) -> int:
        return 4 * ENGINES[role].instruction.words if role in ENGINES else 0

    def commands(self, entry: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
        """Return nothing: the submit itself brings the commands."""
        return ()

    def pointers(self, commands: Bytes, role: str = "regcmd") -> Iterable[Pointer]:
        if role not in _POINTERS or len(commands) < self.nested(role):
            return ()
        return _POINTERS[role](commands)

    def text(self, commands: bytes) -> str:
        return "\n".join(map(str, _writes(commands)))

    def about(self, recording: Recording, entry: Mapping[str, Any]) -> str:
        stream = recording.stream(entry["submit"])
        kinds = [_LAUNCHES[w.address] for w in _writes(stream)
                 if isinstance(w, states.Write) and w.address in _LAUNCHES]  # fmt: skip
        return (
            f"{len(stream)} bytes of commands, {kinds.count(NN_CORES.code_role)} NN and"
            f" {kinds.count(TP_CORES.code_role)} TP jobs, {len(entry['bos'])} buffers"
        )

    def listing(self, recording: Recording, entry: Mapping[str, Any]) -> Iterator[str]:
        number = entry["submit"]
        for write in _writes(recording.stream(number)):
            role = _LAUNCHES.get(write.address) if isinstance(write, states.Write) else None
            if role is None or not isinstance(write, states.Write):
                yield f"    {write}"
                continue
            address = write.value & ~_LOW_BITS
            yield f"    {write}   -> {place_name(recording, address)}"
            if not entry["flags"] & uapi.SUBMIT_SOFTPIN:
                continue  # the kernel puts the address in
            data = recording.commands(number, address, self.nested(role))
            yield f"      {ENGINES[role].instruction.from_bytes(data)}"
            for pointer in self.pointers(np.frombuffer(data, np.uint8), role):
                yield f"        {pointer.role}: {place_name(recording, pointer.address)}"


_LOGGED = {
    uapi.GET_PARAM.name: ("pipe", "param", "value"),
    uapi.GEM_NEW.name: ("size", "flags", "handle"),
    uapi.GEM_INFO.name: ("handle",),
    uapi.GEM_CPU_PREP.name: ("handle", "op"),
    uapi.GEM_CPU_FINI.name: ("handle", "flags"),
    uapi.WAIT_FENCE.name: ("pipe", "fence", "flags"),
    uapi.GEM_USERPTR.name: ("user_size", "flags", "handle"),
    uapi.GEM_WAIT.name: ("pipe", "handle", "flags"),
    uapi.PM_QUERY_DOM.name: ("pipe", "iter", "id", "nr_signals"),
    uapi.PM_QUERY_SIG.name: ("pipe", "domain", "iter", "id"),
    GEM_CLOSE.name: ("handle",),
}
"""Request -> the fields that are logged."""


def _submit_entry(argument: uapi.Submit, read: Reader) -> dict[str, Any]:
    bos = _array(uapi.SubmitBo, read, argument.bos, argument.nr_bos)
    relocs = _array(uapi.SubmitReloc, read, argument.relocs, argument.nr_relocs)
    return {
        "pipe": argument.pipe,
        "exec_state": argument.exec_state,
        "stream_size": argument.stream_size,
        "flags": argument.flags,
        "nr_pmrs": argument.nr_pmrs,
        "bos": [[bo.handle, bo.flags, bo.presumed] for bo in bos],
        "relocs": [[r.submit_offset, r.reloc_idx, r.reloc_offset] for r in relocs],
    }


def _array(kind: type[S], read: Reader, pointer: int, count: int) -> list[S]:
    step = kind.size_bytes
    raw = _read(read, pointer, count * step) if count <= uapi.LISTED_MAX else b""
    return [kind.unpack(raw[at : at + step]) for at in range(0, len(raw), step)]


def _read(read: Reader, pointer: int, size: int) -> bytes:
    """Return memory of the program; nothing where it has none: the kernel refuses that too."""
    try:
        return read(pointer, size) if size else b""
    except OSError:
        return b""


def _writes(stream: bytes | Bytes) -> Iterator[states.Write | states.BadWord]:
    whole = bytes(stream)[: len(stream) & ~3]
    return states.decode(np.frombuffer(whole, "<u4").tolist())


def _stream_pointers(commands: Bytes) -> Iterator[Pointer]:
    for write in _writes(commands):
        if isinstance(write, states.Write) and write.address in _LAUNCHES:
            address = write.value & ~_LOW_BITS
            role, low = _LAUNCHES[write.address], write.value & _LOW_BITS
            yield Pointer(write.offset, ADDR32, address, role, low)


def _pointer(address: Address, value: int, role: str) -> Pointer:
    return Pointer(address.offset, address.kind, value, role)


def _nn_pointers(commands: Bytes) -> Iterator[Pointer]:
    i = NNInstruction.from_bytes(commands.tobytes())
    yield _pointer(NN_CORES.constants, i.kernel_address << 6, "coefficients")
    yield _pointer(NN_CORES.input, i.in_image_address, "input")
    yield _pointer(NN_CORES.output, i.out_image_address, "output")


def _tp_pointers(commands: Bytes) -> Iterator[Pointer]:
    i = TPInstruction.from_bytes(commands.tobytes())
    yield _pointer(TP_CORES.input, i.in_image_base_address, "input")
    yield _pointer(TP_CORES.output, i.out_image_base_address, "output")
    if i.alu_pwl_enable:
        yield _pointer(TP_CORES.constants, i.alu_load_pwl_lut_address, "pwl_lut")


_POINTERS: dict[str, Callable[[Bytes], Iterable[Pointer]]] = {
    "stream": _stream_pointers,
    NN_CORES.code_role: _nn_pointers,
    TP_CORES.code_role: _tp_pointers,
}
