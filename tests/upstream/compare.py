"""Whether two recordings mean the same: requests, submits, every word that the chip reads.

Device addresses become (buffer, offset); words that the first one's program never wrote are left
out. What a later partition reads is data that an earlier one computed: when the given recordings
were made nothing computed, so it is left out too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from teflon_common.recording import Recording

DATA = {"input", "output", "addition", "rdma_src"}
"""Roles of buffers that hold tensors."""
ASIDE = {"START", "MARK", "FILL", "DRM_CORE", "VERSION", "GET_CAP", "PM_QUERY_DOM",
         "PM_QUERY_SIG"}  # fmt: skip
"""Entries that one recorder notes and the other does not."""
FIELDS = ("handle", "size", "flags", "op", "pipe", "param", "value", "timeout_ns")
SUBMIT_FIELDS = ("submit", "pipe", "exec_state", "stream_size", "flags", "nr_pmrs",
                 "job_struct_size", "reserved")  # fmt: skip


def differences(given: Recording, made: Recording) -> list[str]:
    """Return what differs; of `made`, requests after the last one of `given` do not count."""
    found = list(_requests(given, made))
    if not found:
        found += _submits(given, made)
        for entry in given.submits:
            found += _contents(given, made, entry)
    if _pointers(given) != _pointers(made):
        found.append("words with addresses")
    return found


def _requests(given: Recording, made: Recording) -> Iterator[str]:
    theirs, ours = _log(given), _log(made)
    for number, entry in enumerate(theirs):
        have = ours[number] if number < len(ours) else None
        if have != entry:
            yield f"request {number} is {have}, must be {entry}"
            return
    if rest := [
        name for name, *_ in ours[len(theirs) :] if name not in ("GEM_CLOSE", "GEM_CPU_PREP")
    ]:
        yield f"more requests: {rest[0]}"


def _log(recording: Recording) -> list[tuple[Any, ...]]:
    return [
        (entry["ioctl"], *(entry.get(name) for name in FIELDS))
        for entry in recording.log
        if entry["ioctl"] not in ASIDE
    ]


def _submits(given: Recording, made: Recording) -> Iterator[str]:
    theirs, ours = ([_submit(r, e) for e in r.submits] for r in (given, made))
    if theirs != ours:
        yield f"submits are {ours}, must be {theirs}"


def _submit(recording: Recording, entry: dict[str, Any]) -> list[Any]:
    tasks = [
        [[(recording.find(address), count) for address, count in job["tasks"]],
         job["in"], job["out"]]
        for job in entry.get("jobs", ())
    ]  # fmt: skip
    buffers = [row[:2] for row in entry.get("bos", ())]
    return [[entry.get(name) for name in SUBMIT_FIELDS], tasks, buffers]


def _contents(given: Recording, made: Recording, entry: dict[str, Any]) -> Iterator[str]:
    number = entry["submit"]
    if f"stream_{number}" in given.arrays:
        stream = bytearray(made.normalised_stream(number))
        _mask(stream, given, f"stream_{number}")
        if bytes(stream) != given.normalised_stream(number):
            yield f"stream of submit {number}"
    first = min((e["submit"] for e in given.submits if e.get("jobs") or e.get("bos")), default=0)
    for bo in made.meta["bos"]:
        key = given.key(bo["handle"], number)
        content = made.normalised(bo["handle"], number)
        computed = set(bo["roles"]) <= DATA and ("output" in bo["roles"] or number > first)
        if key is None or content is None or computed:
            continue
        ours = bytearray(content)
        _mask(ours, given, key)
        theirs = given.normalised(bo["handle"], number) or b""
        if bytes(ours).rstrip(b"\0") != theirs.rstrip(b"\0"):
            yield f"{'/'.join(bo['roles'])} in buffer {bo['handle']} at submit {number}"


def _mask(data: bytearray, given: Recording, key: str) -> None:
    for offset in given.unstable(key):
        data[offset : offset + 4] = bytes(len(data[offset : offset + 4]))


def _pointers(recording: Recording) -> set[tuple[Any, ...]]:
    """Return every word with an address: where it lies, and to what it points."""
    return {
        (place if place.startswith("stream") else place.split("_")[1], *rest)
        for place, *rest in recording.meta["relocs"]
    }
