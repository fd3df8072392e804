"""Recordings of another driver: all of them load, compare, read as text, and survive saving."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.errors import RecordingError
from teflon_common import recording
from teflon_common.recording import Recording
from teflon_rocket.dialect import RocketDialect
from tests.paths import GOLDEN, needs_shared
from tests.recorded import other_loader

DIALECT = RocketDialect()
PATHS = sorted((GOLDEN / "rocket").glob("*.npz")) if GOLDEN else []


@needs_shared
def test_all_load_and_mean_the_same_to_both_loaders() -> None:
    other, lists = other_loader(), 0
    assert len(PATHS) == 295
    for path in PATHS:
        ours, theirs = recording.read(path), other.load(path)
        for bo in ours.meta["bos"]:
            handle = bo["handle"]
            assert ours.bo(handle) == theirs.bo(handle)
            assert ours.normalised(handle) == theirs.normalised(handle)
            assert ours.normalised(handle, 0) == theirs.normalised(handle, 0)
        jobs = list(theirs.jobs())
        ranges = [place for entry in ours.submits for place in DIALECT.commands(entry)]
        assert [(ours.find(address), size // 8) for address, size in ranges] == [
            (job["regcmd"], job["count"]) for job in jobs
        ]
        lists += len(jobs)
    assert lists > 400


@needs_shared
def test_pointers_are_the_recorded_relocations() -> None:
    """What we know of the commands finds every word that differed between two recorded runs."""
    found = 0
    for path in PATHS:
        rec = recording.read(path)
        wanted = {(place, offset): [handle, target]
                  for place, offset, _, handle, target in rec.meta["relocs"]}  # fmt: skip
        ours = {}
        for entry in rec.submits:
            for address, size in DIALECT.commands(entry):
                place = rec.find(address)
                assert place is not None
                key = rec.key(place[0], entry["submit"])
                data = np.frombuffer(rec.commands(entry["submit"], address, size), np.uint8)
                for pointer in DIALECT.pointers(data):
                    target = rec.find(pointer.address)
                    assert target is not None
                    ours[key, place[1] + pointer.offset] = list(target)
        unsubmitted = {k for k in wanted if not rec.submits}
        assert ours == {k: v for k, v in wanted.items() if k not in unsubmitted}
        found += len(ours)
    assert found > 2000


@needs_shared
def test_text() -> None:
    assert GOLDEN is not None
    rec = recording.read(GOLDEN / "rocket/mb-004.npz")
    lines = recording.text(rec, DIALECT).splitlines()
    assert lines[0] == "mb-004 on rocket, by Mesa 26.2.6-1: ok"
    assert lines[7] == "submit 0: 1 jobs, 1 command lists, 1040 bytes"
    assert "  command list at bo 5 (regcmd), 1040 bytes" in lines
    assert any(re.fullmatch(r" +CNA.DCOMP_ADDR0 .* -> bo 1 \(weights\)", line) for line in lines)
    commands = lines.index("  command list at bo 5 (regcmd), 1040 bytes")
    assert lines[commands + 130].strip().startswith("enable CNA CORE DPU DPU_RDMA")
    whole = recording.read(GOLDEN / "rocket/mobilenet_v1_1.0_224_quant.npz")
    assert "loaded rocket driver" in whole.printed()
    assert "submit 1: 1 jobs, 1 command lists, 1040 bytes" in recording.summary(whole, DIALECT)
    assert rec.printed() == ""


@needs_shared
def test_saving_keeps_everything(tmp_path: Path) -> None:
    other = other_loader()
    for path in PATHS[::40]:
        rec = recording.read(path)
        copy = tmp_path / path.name
        rec.save(copy)
        again = recording.read(copy)
        assert again.meta == rec.meta
        assert {k: v.tobytes() for k, v in again.arrays.items()} == {
            k: v.tobytes() for k, v in rec.arrays.items()
        }
        assert other.load(copy).meta == rec.meta
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npz"] * 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged (BadZipFile: "),
        (b"no zip at all", "is damaged (BadZipFile: "),
        (b"PK\3\4 and nothing behind it", "is damaged (BadZipFile: "),
    ],
)
def test_no_recording(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(
        RecordingError,
        match=rf"^{re.escape(str(path))}: is not a recording, must be an .npz file with `meta` "
        rf"\({re.escape(reason)}",
    ):
        recording.read(path)


def test_incomplete_recordings(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none: is not a recording.*\(.*No such file"):
        recording.read(tmp_path / "none")
    path = tmp_path / "x.npz"
    np.savez(path, other=np.zeros(3))
    with pytest.raises(RecordingError, match=r"\(it has no `meta`\)$"):
        recording.read(path)
    good: dict[str, Any] = {"driver": "rocket", "log": [], "bos": [], "relocs": []}
    for changes, message in (
        ({"bos": 3}, r"bos is 3, must be a list, .*"),
        ({"log": [{"ioctl": "SUBMIT"}, 5]}, r"log\[1\] is 5, must be an object with ioctl"),
        ({"bos": [{"handle": 1}]}, r"bos\[0\] has no size, roles, must have them"),
        ({"relocs": [["bo_1_0", 1]]}, r"relocs\[0\] is .*, must be \[text; a whole number .*\]"),
    ):
        Recording(good | changes).save(path)
        with pytest.raises(RecordingError, match=rf"x.npz: {message}$"):
            recording.read(path)
    np.savez(path, meta=np.frombuffer(b"[]", np.uint8))
    with pytest.raises(
        RecordingError, match=r"x.npz: meta is \[\], must be an object with driver, .*$"
    ):
        recording.read(path)
    Recording({"driver": "rocket", "log": []}).save(path)
    with pytest.raises(RecordingError, match=r"x.npz: meta has no bos, relocs, must have them$"):
        recording.read(path)
    rec = Recording({**recording.EMPTY, "relocs": [["stream_0", 0, "addr9", 1, 2]]},
                    {"stream_0": np.zeros(8, np.uint8)})  # fmt: skip
    with pytest.raises(RecordingError, match=r"kind is 'addr9', must be addr32"):
        rec.normalised_stream(0)
    with pytest.raises(RecordingError, match=r"^recording: has no stream_1, must have one$"):
        rec.stream(1)
    with pytest.raises(RecordingError, match=r"submit 0 runs 8 bytes of commands at 0x10, must"):
        rec.commands(0, 16, 8)
    assert rec.bo(3) is None
    assert rec.normalised(3) is None


def test_kinds_of_address() -> None:
    relocs = [["stream_0", 0, "addr32", 1, 0x11], ["stream_0", 4, "addr26_shr6", 1, 0x1000],
              ["stream_0", 8, "regcmd_value", 1, 0x22]]  # fmt: skip
    rec = Recording(
        {**recording.EMPTY, "relocs": relocs, "unstable": {"stream_0": [16]}},
        {"stream_0": np.full(20, 0xFF, np.uint8)},
    )
    assert rec.normalised_stream(0) == (
        b"\x11\0\0\0" + (0xFC000000 | 0x40).to_bytes(4, "little")
        + (0xFFFF_0000_0022_FFFF).to_bytes(8, "little") + bytes(4)
    )  # fmt: skip


def test_words_named_under_a_later_submit_are_found_where_the_bytes_lie() -> None:
    kept = {"bo_7_0": np.full(8, 0xFF, np.uint8), "bo_7_3": np.full(8, 0xEE, np.uint8)}
    meta = {**recording.EMPTY, "relocs": [["bo_7_2", 0, "addr32", 1, 5]],
            "unstable": {"bo_7_1": [4]}}  # fmt: skip
    rec = Recording(meta, kept)
    assert rec.normalised(7, 1) == rec.normalised(7, 0) == b"\x05\0\0\0" + bytes(4)
    assert rec.normalised(7) == b"\xee" * 8
    assert rec.unstable("bo_7_0") == [4]
