"""Recordings of the requests that a program sent to a kernel: read, compare and show them.

A recording is an .npz file: `meta` (JSON: the model, the log of all requests, the buffers, the
words with addresses), `bo_<handle>_<submit>` (the content of a buffer at a submit, stored if it
changed), `stream_<submit>` (command streams of drivers that have them), `after_<handle>_<submit>`
(the content of a buffer after a wait for it: what the device wrote).

    rec = load("mb-004.npz")
    rec.bo(5)                    bytes of buffer 5 at the last submit
    rec.normalised(5)            the same with offsets into the target buffers instead of addresses

`recorder.Recorder` makes such a file. A driver's `Dialect` has the facts about its own requests:
which request makes a buffer, where addresses lie, how commands look as text.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import RecordingError
from teflon.files import replace_file
from teflon.ir.types import Array
from teflon.npz import read_npz
from teflon_common.caller import Reader, copy_from_user
from teflon_common.recording_rules import array_problem, meta_problem
from teflon_common.structs import Ioctl, Struct, Uapi

Bytes = npt.NDArray[np.uint8]

LAST = 1 << 30
"""A number after that of the last submit."""

_BUFFER = re.compile(r"bo_(\d{1,10})_(\d{1,10})")

SUBMITS = ("SUBMIT", "GEM_SUBMIT")
WAITS = ("PREP_BO", "GEM_CPU_PREP")
POLLS = 4
"""The bit in `op` of a wait that only asks. Ref: Linux, include/uapi/drm/etnaviv_drm.h (NOSYNC)"""

EMPTY: Mapping[str, Any] = {
    "model": "", "model_sha256": "", "model_bytes": 0, "device": "", "driver": "", "ids": {},
    "mesa": "", "input_seed": None, "inputs": [], "outputs": [], "ops": [], "teflon_nodes": [],
    "teflon_partitions": [], "delegate_ops": [], "log": [], "bos": [], "relocs": [],
    "differences": [], "unstable": {}, "sizes": {}, "ports": [],
    "status": {"stage": "done", "exit": 0, "timed_out": False, "ok": True},
}  # fmt: skip


@dataclass
class Recording:
    """`meta` and `arrays` of the file; `name` is its name in messages."""

    meta: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)
    name: str = "recording"

    def __post_init__(self) -> None:
        self._dumps: dict[int, list[int]] = defaultdict(list)
        for key in self.arrays:
            if match := _BUFFER.fullmatch(key):
                self._dumps[int(match[1])].append(int(match[2]))

    @property
    def log(self) -> list[dict[str, Any]]:
        """All requests in order."""
        return self.meta["log"]  # type: ignore[no-any-return]

    @property
    def driver(self) -> str:
        return str(self.meta["driver"])

    @property
    def submits(self) -> list[dict[str, Any]]:
        """The submits that the kernel accepted."""
        return [e for e in self.log if e["ioctl"] in SUBMITS and not e.get("errno")]

    def key(self, handle: int, submit: int = LAST) -> str | None:
        """Return the name of the array with a buffer's content at a submit, or None."""
        best = max((n for n in self._dumps.get(handle, ()) if n <= submit), default=None)
        return None if best is None else f"bo_{handle}_{best}"

    def bo(self, handle: int, submit: int = LAST) -> bytes | None:
        """Return a buffer's content at a submit; None if it was not recorded."""
        key = self.key(handle, submit)
        return None if key is None else self.arrays[key].tobytes()

    def stream(self, submit: int) -> bytes:
        """Return the command stream of a submit. Raises RecordingError."""
        return self._array(f"stream_{submit}").tobytes()

    def normalised(self, handle: int, submit: int = LAST) -> bytes | None:
        """Return a buffer's bytes with offsets in place of addresses, zeros for unstable words."""
        key = self.key(handle, submit)
        return None if key is None else self._normalised(key)

    def normalised_stream(self, submit: int) -> bytes:
        """Return a command stream, changed as `normalised` does with buffers."""
        return self._normalised(f"stream_{submit}")

    def find(self, address: int) -> tuple[int, int] | None:
        """Return (handle, offset) of a device address; None if it is in no buffer."""
        for bo in self.meta["bos"]:
            start = bo["addr"]
            if start is not None and start <= address < start + max(bo["size"], 1):
                return bo["handle"], address - start
        return None

    def commands(self, submit: int, address: int, size: int) -> bytes:
        """Return the content of a command list at a submit. Raises RecordingError."""
        place = self.find(address)
        data = None if place is None else self.bo(place[0], submit)
        if place is None or data is None or len(data) < place[1] + size:
            raise RecordingError(
                f"{self.name}: submit {submit} runs {size} bytes of commands at {address:#x}, "
                "must have them in a buffer of the recording"
            )
        return data[place[1] : place[1] + size]

    def printed(self) -> str:
        """Return the output that the recorded program printed; "" if there is none."""
        output = self.arrays.get("text")
        return "" if output is None else output.tobytes().decode(errors="replace")

    def _array(self, key: str) -> Array:
        if key not in self.arrays:
            raise RecordingError(f"{self.name}: has no {key}, must have one")
        return self.arrays[key]

    def _normalised(self, key: str) -> bytes:
        data = bytearray(self._array(key).tobytes())
        for place, offset, kind, _, target in self.meta["relocs"]:
            if self.content_key(place) == key and offset < len(data):
                _put(data, offset, kind, target)
        for offset in self.unstable(key):
            data[offset : offset + 4] = bytes(4)
        return bytes(data)

    def unstable(self, key: str) -> list[int]:
        """Return the byte offsets of words that the recorded program never wrote."""
        return [
            offset
            for place, offsets in self.meta.get("unstable", {}).items()
            if self.content_key(place) == key
            for offset in offsets
            if offset < len(self._array(key))
        ]

    def content_key(self, place: str) -> str:
        """Return the name of the array with the content of `bo_<handle>_<submit>`.

        Recordings of etnaviv name the submit that uses a buffer; the content is stored under the
        last submit at which it changed.
        """
        match = _BUFFER.fullmatch(place)
        return (match and self.key(int(match[1]), int(match[2]))) or place

    def to_bytes(self) -> bytes:
        """Return the file."""
        whole = io.BytesIO()
        meta = np.frombuffer(json.dumps(self.meta).encode(), np.uint8)
        np.savez_compressed(whole, **{**self.arrays, "meta": meta})  # type: ignore[arg-type]
        return whole.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; after an error the old file is unchanged. Raises OSError."""
        replace_file(path, self.to_bytes())


def _put(data: bytearray, offset: int, kind: str, target: int) -> None:
    if kind == "addr32":
        struct.pack_into("<I", data, offset, target)
    elif kind == "addr26_shr6":
        (word,) = struct.unpack_from("<I", data, offset)
        struct.pack_into("<I", data, offset, word & ~0x3FFFFFF | target >> 6)
    elif kind == "regcmd_value":
        (word,) = struct.unpack_from("<Q", data, offset)
        struct.pack_into("<Q", data, offset, word & ~(0xFFFFFFFF << 16) | target << 16)
    else:
        raise RecordingError(
            f"relocation at {offset}: kind is {kind!r}, must be addr32, addr26_shr6 or regcmd_value"
        )


def read(path: str | os.PathLike[str]) -> Recording:
    """Read a recording; everything that later code relies on is checked here.

    Raises RecordingError for a file that is not one, or whose content does not fit together.
    """
    name = os.fsdecode(path)
    try:
        arrays = read_npz(path)
        meta = json.loads(arrays.pop("meta").tobytes())
    except (OSError, ValueError, KeyError, RecursionError) as error:
        why = "it has no `meta`" if isinstance(error, KeyError) else error
        raise RecordingError(
            f"{name}: is not a recording, must be an .npz file with `meta` ({why})"
        ) from error
    if problem := meta_problem(meta) or array_problem(arrays):
        raise RecordingError(f"{name}: {problem}")
    return Recording({**EMPTY, **meta}, arrays, name)


# facts about a driver's requests


@dataclass(frozen=True)
class NewBuffer:
    """A buffer that a request made, with its device address and its mmap offset.

    They are None if other requests define them (`Dialect.placed`, `Dialect.mapped`). pointer: the
    program's own memory, if the buffer is that.
    """

    handle: int
    size: int
    address: int | None
    offset: int | None
    pointer: int | None = None


@dataclass(frozen=True)
class Pointer:
    """A word with a device address: its byte offset, the kind of relocation, the target's role."""

    offset: int
    kind: str
    address: int
    role: str
    low: int = 0
    """Bits of the word that do not belong to the address."""


class Dialect(ABC):
    """The facts about a driver's requests and commands."""

    interface: Uapi
    command_bytes: int
    """Size of a command; each command is one line of text."""

    @abstractmethod
    def entry(
        self, ioctl: Ioctl, argument: Struct, read: Reader = copy_from_user
    ) -> dict[str, Any]:
        """Return the log's fields for a request, beside `seq` and `ioctl`.

        `read(address, size)` returns the memory of the pointers in the argument.
        """

    @abstractmethod
    def created(self, ioctl: Ioctl, argument: Struct) -> NewBuffer | None:
        """Return the buffer that a request made; None for other requests."""

    def mapped(self, ioctl: Ioctl, argument: Struct) -> tuple[int, int] | None:
        """Return (handle, mmap offset) if a request defines the mmap offset of a buffer."""
        return None

    def placed(self, entry: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
        """Return (handle, device address) of buffers whose addresses a logged submit defines."""
        return ()

    def stream(self, ioctl: Ioctl, argument: Struct, read: Reader = copy_from_user) -> bytes | None:
        """Return the commands in a submit itself; None if all commands lie in buffers."""
        return None

    def nested(self, role: str) -> int:
        """Return the bytes of commands in buffers of this role; 0 if they have no commands."""
        return 0

    @abstractmethod
    def commands(self, entry: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
        """Return (device address, bytes) of each command list of a logged submit."""

    @abstractmethod
    def pointers(self, commands: Bytes, role: str = "regcmd") -> Iterable[Pointer]:
        """Return the words with addresses in commands of this role; "stream" is a role too."""

    @abstractmethod
    def text(self, commands: bytes) -> str:
        """Return a command list as text, with one line for each command."""

    def about(self, recording: Recording, entry: Mapping[str, Any]) -> str:
        """Return a summary of a submit: its jobs, its command lists."""
        lists = list(self.commands(entry))
        jobs = f"{len(entry['jobs'])} jobs, " if "jobs" in entry else ""
        return f"{jobs}{len(lists)} command lists, {sum(size for _, size in lists)} bytes"

    def listing(self, recording: Recording, entry: Mapping[str, Any]) -> Iterator[str]:
        """Yield the commands of a submit line by line. Raises RecordingError."""
        for address, size in self.commands(entry):
            yield f"  command list at {place_name(recording, address)}, {size} bytes"
            yield from _listing(recording, self, recording.commands(entry["submit"], address, size))


# recordings as text


_DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError)
"""What parts of a recording that do not fit together raise."""


def show(recording: Recording, dialect: Dialect, driver: str, whole: bool = False) -> str:
    """Return a recording of a driver as text: a summary or, with `whole`, everything.

    Raises RecordingError.
    """
    if recording.driver != driver:
        raise RecordingError(
            f"{recording.name}: driver is {recording.driver!r:.60}, must be {driver!r}"
        )
    try:
        found = (text if whole else summary)(recording, dialect)
        return found.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair
    except _DAMAGE as error:
        raise misfit(recording, "its parts", error) from error


def misfit(recording: Recording, what: str, error: Exception) -> RecordingError:
    """Return the error for parts of a recording that contradict each other."""
    return RecordingError(
        f"{recording.name}: {what} does not fit the rest ({type(error).__name__}: {error})"
    )


def summary(recording: Recording, dialect: Dialect) -> str:
    """Return a summary of a recording in a few lines."""
    meta = recording.meta
    by = f"Mesa {meta['mesa']}" if meta.get("mesa") else meta.get("recorder", "")
    taken = sum(1 for node in meta.get("teflon_nodes", ()) if node["supported"])
    lines = [f"{meta.get('model') or 'no model'} on {meta['device'] or '?'}, by {by}: "
             + ("ok" if meta["status"]["ok"] else f"broken off: {meta['status']}")]  # fmt: skip
    if meta.get("teflon_nodes"):
        lines.append(f"operations taken: {taken} of {len(meta['ops'])}")
    for role in dict.fromkeys(r for bo in meta["bos"] for r in bo["roles"]):
        sizes = [bo["size"] for bo in meta["bos"] if role in bo["roles"]]
        lines.append(f"{role}: {len(sizes)} buffers, {sum(sizes)} bytes")
    lines += [f"submit {e['submit']}: {dialect.about(recording, e)}" for e in recording.submits]
    return "\n".join(lines)


def text(recording: Recording, dialect: Dialect) -> str:
    """Return a recording as text: all requests, and the command lists of all submits."""
    lines = [summary(recording, dialect), ""]
    for entry in recording.log:
        rest = {k: v for k, v in entry.items() if k not in ("seq", "ioctl", "jobs")}
        lines.append(f"{entry['ioctl']} " + " ".join(f"{k}={v}" for k, v in rest.items()))
        lines += [f"  job in={job['in']} out={job['out']}" for job in entry.get("jobs", ())]
        if entry["ioctl"] in SUBMITS and not entry.get("errno"):
            lines += dialect.listing(recording, entry)
    return "\n".join(lines)


def _listing(recording: Recording, dialect: Dialect, data: bytes) -> Iterator[str]:
    """Yield a command list line by line, with the targets of addresses."""
    pointers = dialect.pointers(np.frombuffer(data, np.uint8))
    names = {pointer.offset: place_name(recording, pointer.address) for pointer in pointers}
    for number, line in enumerate(dialect.text(data).splitlines()):
        note = names.get(number * dialect.command_bytes)
        yield f"    {line}" + (f"   -> {note}" if note else "")


def place_name(recording: Recording, address: int) -> str:
    """Return the buffer at a device address as text."""
    if (place := recording.find(address)) is None:
        return f"{address:#x}"
    handle, offset = place
    roles = next(bo["roles"] for bo in recording.meta["bos"] if bo["handle"] == handle)
    return f"bo {handle} ({', '.join(roles) or 'unused'})" + (f" + {offset}" if offset else "")
