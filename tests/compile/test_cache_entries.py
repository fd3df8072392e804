"""Entries of the compile cache: damage, eviction, races, folders that cannot be used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from teflon.compile import cache
from teflon.compile.cache import Cache
from teflon.errors import ProgramError
from teflon.pipe import Executable, Program
from teflon.samples import models
from tests.compile.helpers import KEY, OTHER, files, run

pytestmark = pytest.mark.usefixtures("forget_warnings")


def test_get_returns_what_put_stored(store: Cache) -> None:
    assert store.get(KEY) is None
    assert store.put(KEY, b"program")
    assert store.get(KEY) == b"program"
    assert store.get(OTHER) is None
    assert [f.suffix for f in files(store)] == [".entry"]


@pytest.mark.parametrize("at", [0, 8, 12, 16, 47, 48, 56, 60])
def test_a_damaged_entry_is_not_used(
    store: Cache, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(KEY, b"program")
    (file,) = files(store)
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert store.get(KEY) is None
    assert not file.exists()
    assert store.put(KEY, b"program")
    file.write_bytes(data)
    assert store.get(KEY) is None
    assert len(caplog.records) == 1, "one warning for a folder"
    assert "an entry is damaged or is not an entry of a cache, it is replaced" in caplog.text


@pytest.mark.parametrize("data", [b"", b"TEFLONCA", b"PK\3\4" + bytes(100), b"x" * 63])
def test_files_with_other_content_are_replaced(store: Cache, data: bytes) -> None:
    store.put(KEY, b"program")
    files(store)[0].write_bytes(data)
    assert store.get(KEY) is None
    assert store.put(KEY, b"program")
    assert store.get(KEY) == b"program"


def test_an_entry_under_another_name_is_not_used(store: Cache) -> None:
    store.put(KEY, b"program")
    (file,) = files(store)
    file.rename(file.with_name(OTHER.hex() + cache.SUFFIX))
    assert store.get(OTHER) is None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = Cache(tmp_path, limit=1000)
    for number in range(4):
        store.put(bytes([number]) * 32, bytes(180))  # 236 bytes with its head
        os.utime(store._path(bytes([number]) * 32), (100 + number,) * 2)
    assert store.get(bytes(32)) is not None, "used just now"
    store.put(b"n" * 32, bytes(180))
    left = {number for number in range(4) if store.get(bytes([number]) * 32)}
    assert left == {0, 3}
    assert store.get(b"n" * 32)
    assert sum(e.size for e in store.entries()) <= 1000


def test_a_payload_beyond_the_limit_is_not_stored(tmp_path: Path) -> None:
    store = Cache(tmp_path, limit=100)
    assert not store.put(KEY, bytes(101))
    assert files(store) == []


def test_other_files_stay(store: Cache) -> None:
    store.put(KEY, b"program")
    assert store.folder
    (store.folder / "notes.txt").write_text("mine")
    fresh, old = store.folder / "a.tmp", store.folder / "b.tmp"
    fresh.touch()
    old.touch()
    os.utime(old, (0, 0))
    store.put(OTHER, b"program")
    assert fresh.exists()
    assert not old.exists(), "left by a process that died"
    assert store.clear() == 2
    assert files(store) == [store.folder / "notes.txt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where the folder's parent must be: even root cannot write there."""
    (tmp_path / "file").touch()
    store = Cache(tmp_path / "file" / "cache")
    assert not store.put(KEY, b"program")
    assert not store.put(OTHER, b"program")
    assert store.get(KEY) is None
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 2, "one each way"
    assert "cannot be written, Not a directory; nothing is stored" in caplog.text


def test_a_full_disk(
    store: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def replace(*_names: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    assert run(models.resolve("digits_int8"), cache=store.folder)
    assert files(store) == [], "no temporary file stays"
    assert "No space left on device; nothing is stored" in caplog.text


def test_a_read_only_folder_still_serves(store: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, b"program")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    assert store.get(KEY) == b"program"


RACE = """
import sys
from pathlib import Path
from teflon.compile.cache import Cache
store = Cache(Path(sys.argv[1]), limit=40_000)
for round in range(60):
    for number in range(8):
        key = bytes([number]) * 32
        found = store.get(key)
        assert found is None or found == bytes([number]) * 9000, number
        store.put(key, bytes([number]) * 9000)
"""


def test_many_processes_share_a_folder(store: Cache) -> None:
    """Three at once write, read and evict the same entries: each finds whole ones or none."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", RACE, str(store.folder)],
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert (worker.returncode, errors) == (0, "")
    assert sum(e.size for e in store.entries()) <= 40_000
    assert not [f for f in files(store) if f.suffix == ".tmp"]


ODD: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "full folder": lambda path: (path / "inside").mkdir(parents=True),
    "link": lambda path: path.symlink_to("/dev/zero"),
    "broken link": lambda path: path.symlink_to("nowhere"),
    "empty": Path.touch,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_entry_is_replaced(store: Cache, kind: str) -> None:
    model = models.resolve("digits_int8")
    first = run(model, cache=store.folder)
    for file in files(store):
        file.unlink()
        ODD[kind](file)
        assert store.get(bytes.fromhex(file.stem)) is None
        if not os.path.lexists(file):  # `get` has removed it
            ODD[kind](file)
        again = run(model, cache=store.folder)
        assert [a.tolist() for a in again.values()] == [a.tolist() for a in first.values()]
        assert file.is_file()
        assert not file.is_symlink()
    ODD[kind](store._path(KEY))
    assert store.clear()
    assert files(store) == []


def test_an_artefact_that_cannot_be_loaded_is_forgotten(
    store: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its entries can be read, but its program is refused by the context: once."""
    from teflon_rocket.context import RocketContext

    model = models.resolve("digits_int8")
    first = run(model, cache=store.folder)
    real: Callable[[RocketContext, Program], Executable] = RocketContext.load
    refused: list[Program] = []

    def load(self: RocketContext, program: Program) -> Executable:
        if not refused:
            refused.append(program)
            raise ProgramError("program: is refused")
        return real(self, program)

    monkeypatch.setattr(RocketContext, "load", load)
    again = run(model, cache=store.folder)
    assert [a.tolist() for a in again.values()] == [a.tolist() for a in first.values()]
    assert refused
    assert "an entry cannot be loaded, it is replaced" in caplog.text
    assert len(files(store)) > 1
