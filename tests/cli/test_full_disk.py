"""A disk that is full while a command writes its file."""

from __future__ import annotations

import os
import resource
import tempfile
import zlib
from pathlib import Path

import pytest

from teflon.cli import main
from teflon.cli.common import write_whole
from teflon.errors import OptionError
from teflon.files import replace_file


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.teflon"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OptionError, match=r"x\.teflon: cannot be written, File too large$"):
            write_whole(path, bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_recording_that_does_not_fit_is_named_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.npz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))
    try:
        arguments = ["--device", "sim:rk3588", "--option", "cache=off", "-o", str(path)]
        assert main(["record", "digits_int8", *arguments]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = f"teflon: option record: {path}: cannot be written, File too large\n"
    assert capsys.readouterr().err == told
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    """Theirs, an hour later; never that of a writer at work, or of another file."""
    path, left = tmp_path / "r.npz", []
    for number in range(3):
        descriptor, name = tempfile.mkstemp(
            ".part", f".teflon-{zlib.crc32(b'r.npz' if number else b'other'):08x}-", tmp_path
        )
        os.close(descriptor)
        left.append(Path(name))
    for old in left[:2]:
        os.utime(old, (0, 0))
    replace_file(path, b"whole")
    assert [file.exists() for file in left] == [True, False, True]
    assert path.read_bytes() == b"whole"
    assert not path.stat().st_mode & 0o111
