"""Submits: what a program passes, and every check of the kernel, in the kernel's order.

Command streams are not parsed here: the kernel does that only for cores with the first MMU, and no
core of our chips has it.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem_submit.c (etnaviv_ioctl_gem_submit and submit_*)
"""

from __future__ import annotations

import errno
import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from teflon_common.caller import copy_from_user, taken_descriptor
from teflon_common.fake_drm import BufferObject, refuse
from teflon_common.fake_fences import SyncFile, find_sync_file
from teflon_common.structs import Struct
from teflon_etnaviv import counters, uapi
from teflon_etnaviv.simulator.address_map import AddressMap
from teflon_etnaviv.simulator.buffer_use import pages_of, use_of

_FLAGS = (
    uapi.SUBMIT_NO_IMPLICIT
    | uapi.SUBMIT_FENCE_FD_IN
    | uapi.SUBMIT_FENCE_FD_OUT
    | uapi.SUBMIT_SOFTPIN
)
_BO_FLAGS = uapi.SUBMIT_BO_READ | uapi.SUBMIT_BO_WRITE
_PMR_FLAGS = uapi.PM_PROCESS_PRE | uapi.PM_PROCESS_POST
_WORD = 4
_LISTS_KEPT = 16

Listed = tuple[tuple[BufferObject, int, int], ...]
"""Buffer, address and flags of each entry of a submit's list."""
S = TypeVar("S", bound=Struct)


@dataclass(frozen=True)
class Sample:
    """A counter that is read before or after a job, and the word of a buffer that gets it."""

    name: str
    flags: int
    bo: BufferObject
    word: int
    sequence: int


@dataclass(frozen=True)
class Work:
    """A submit that passed validation; it holds references to its buffers, at their addresses."""

    where: str
    pipe: int
    stream: bytes
    bos: Listed
    samples: tuple[Sample, ...]
    waits: SyncFile | None
    titles: tuple[str, ...] = ()
    """The submitter's names for what the stream starts."""


@dataclass(frozen=True)
class Passed:
    """What a submit's pointers and descriptors led to."""

    bos: tuple[uapi.SubmitBo, ...]
    relocs: tuple[uapi.SubmitReloc, ...]
    pmrs: tuple[uapi.SubmitPmr, ...]
    stream: bytes
    waits: SyncFile | None


def check(argument: uapi.Submit) -> None:
    """Check the fields of a submit. Raises OSError EINVAL."""
    largest = uapi.LISTED_MAX
    if (
        argument.stream_size % _WORD
        or argument.exec_state >= uapi.EXEC_STATES
        or argument.flags & ~_FLAGS
        or max(argument.stream_size, argument.nr_relocs, argument.nr_bos) > largest
        or argument.nr_pmrs > uapi.PMRS_MAX
    ):
        raise refuse(errno.EINVAL)


def read(argument: uapi.Submit) -> Passed:
    """Copy what a submit points to. Raises OSError EFAULT; EINVAL for what is no sync file."""
    bos = _array(uapi.SubmitBo, argument.bos, argument.nr_bos)
    relocs = _array(uapi.SubmitReloc, argument.relocs, argument.nr_relocs)
    pmrs = _array(uapi.SubmitPmr, argument.pmrs, argument.nr_pmrs)
    stream = copy_from_user(argument.stream, argument.stream_size)
    waits = _sync_file(argument.fence_fd) if argument.flags & uapi.SUBMIT_FENCE_FD_IN else None
    return Passed(bos, relocs, pmrs, stream, waits)


def _array(kind: type[S], pointer: int, count: int) -> tuple[S, ...]:
    raw = copy_from_user(pointer, count * kind.size_bytes)
    return _unpacked(kind, raw)  # type: ignore[arg-type]  # classes of structs can be hashed


@functools.lru_cache(maxsize=_LISTS_KEPT)
def _unpacked(kind: type[S], raw: bytes) -> tuple[S, ...]:
    """Return the entries of an array; callers must not change them."""
    step = kind.size_bytes
    return tuple(kind.unpack(raw[at : at + step]) for at in range(0, len(raw), step))


def _sync_file(number: int) -> SyncFile:
    """Return the sync file of a descriptor of the caller. Raises OSError EINVAL."""
    try:
        with taken_descriptor(number) as descriptor:
            found = find_sync_file(descriptor)
    except OSError:
        found = None
    if found is None:
        raise refuse(errno.EINVAL)
    return found


@dataclass
class Submission:
    """A submit while it is checked: the buffers that it holds so far."""

    argument: uapi.Submit
    passed: Passed
    addresses: AddressMap
    bos: list[BufferObject] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    stream: bytes = b""
    samples: list[Sample] = field(default_factory=list)

    @property
    def softpin(self) -> bool:
        return bool(self.argument.flags & uapi.SUBMIT_SOFTPIN)

    def validate(self, find: Callable[[int], BufferObject | None]) -> None:
        """Make all checks. find: handle -> buffer. Raises OSError; `give_up` is needed then."""
        self._look_up(find)
        self._pin()
        self._relocate()
        self._check_samples()
        if len(set(self.bos)) < len(self.bos):
            raise refuse(errno.EALREADY)

    def listed(self) -> Listed:
        """Return the list with the addresses that the buffers have."""
        entries = zip(self.bos, self.starts, self.passed.bos, strict=True)
        return tuple((bo, start, entry.flags) for bo, start, entry in entries)

    def give_up(self, put: Callable[[BufferObject], None]) -> None:
        """Release what a refused submit holds."""
        held = self.bos[: len(self.starts)]
        for bo in held:
            self.addresses.release(bo)
        for bo in self.bos:
            put(bo)

    def _look_up(self, find: Callable[[int], BufferObject | None]) -> None:
        for entry in self.passed.bos:
            wrong_place = self.softpin and entry.presumed < uapi.SOFTPIN_START
            bo = find(entry.handle)
            if entry.flags & ~_BO_FLAGS or wrong_place or bo is None:
                raise refuse(errno.EINVAL)
            bo.references += 1
            self.bos.append(bo)

    def _pin(self) -> None:
        for bo, entry in zip(self.bos, self.passed.bos, strict=True):
            use = use_of(bo)
            if use.user is not None or bo not in self.addresses:
                pages_of(bo)
            mapping = self.addresses.hold(bo, entry.presumed if self.softpin else 0)
            self.starts.append(mapping.start)
            if self.softpin and mapping.start != entry.presumed:
                raise refuse(errno.EINVAL)

    def _relocate(self) -> None:
        """Put addresses into the stream."""
        self.stream = self.passed.stream
        if self.softpin and self.passed.relocs:
            raise refuse(errno.EINVAL)
        patched, last = bytearray(self.stream), 0
        for reloc in self.passed.relocs:
            at = reloc.submit_offset
            if reloc.flags or at % _WORD or not last <= at < len(patched):
                raise refuse(errno.EINVAL)
            bo = self._entry(reloc.reloc_idx)
            if reloc.reloc_offset > bo.mapped_bytes - _WORD:
                raise refuse(errno.EINVAL)
            address = self.starts[reloc.reloc_idx] + reloc.reloc_offset
            struct.pack_into("<I", patched, at, address & 0xFFFFFFFF)
            last = at
        if self.passed.relocs:
            self.stream = bytes(patched)

    def _check_samples(self) -> None:
        for pmr in self.passed.pmrs:
            bo = self._entry(pmr.read_idx)
            name = counters.find(self.argument.exec_state, pmr.domain, pmr.signal)
            inside = 0 < pmr.read_offset < bo.mapped_bytes - _WORD
            if not inside or pmr.flags & ~_PMR_FLAGS or name is None:
                raise refuse(errno.EINVAL)
            self.samples.append(Sample(name, pmr.flags, bo, pmr.read_offset, pmr.sequence))

    def _entry(self, index: int) -> BufferObject:
        if index >= len(self.bos):
            raise refuse(errno.EINVAL)
        return self.bos[index]


def store(samples: Sequence[Sample], flags: int, counts: counters.Counts) -> list[str]:
    """Store counters as the kernel does; return which would lie behind their buffer.

    The kernel checks `read_offset` as bytes, but stores at that word.
    Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_perfmon.c (etnaviv_perfmon_process)
    """
    outside = []
    for sample in samples:
        if sample.flags != flags:
            continue
        if _WORD * (sample.word + 1) > sample.bo.mapped_bytes:
            outside.append(f"counter {sample.name} is stored at word {sample.word}, behind its end")
            continue
        value = counts.get(sample.name, 0) & 0xFFFFFFFF
        struct.pack_into("<I", sample.bo.device, _WORD * sample.word, value)
    return outside
