"""A disk that is full while a command writes its file."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from teflon.cli.common import write_whole
from teflon.errors import OptionError


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
