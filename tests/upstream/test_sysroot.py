"""What is said where packages cannot be had; nothing here reaches a registry."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.upstream import sysroot
from tests.upstream.sysroot import Missing


def program(folder: Path, name: str, text: str) -> None:
    """Put a shell script on the path."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv(sysroot.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(sysroot.ARCHIVE, raising=False)
    return folder


def tools(path: Path) -> None:
    for name in ("qemu-aarch64-static", "aarch64-linux-gnu-gcc", "apt-get", "dpkg-deb", "tar"):
        program(path, name, "exit 0")


@pytest.mark.parametrize(
    ("gone", "cure"),
    [
        ("qemu-aarch64-static", "no qemu-aarch64: install qemu-user"),
        ("aarch64-linux-gnu-gcc", "no aarch64-linux-gnu-gcc: install gcc-aarch64-linux-gnu and "),
        ("apt-get", "no apt-get: install apt"),
    ],
)
def test_missing_tools(path: Path, gone: str, cure: str) -> None:
    tools(path)
    (path / gone).unlink()
    with pytest.raises(Missing, match=rf"^{cure}"):
        sysroot.bring()


def test_another_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(Missing, match=r"^this is darwin, must be Linux$"):
        sysroot.bring()


def test_apt_without_a_debian_archive(path: Path) -> None:
    tools(path)
    program(path, "apt-config", "echo 'Acquire::Retries \"1\";'")
    program(path, "apt-get", "echo 'http://packages.example/tools/|stable|Tools'")
    with pytest.raises(
        Missing, match=rf"^this machine's apt has no Debian archive: .*{sysroot.ARCHIVE}$"
    ):
        sysroot.bring()


@pytest.mark.parametrize("named", [False, True])
def test_an_archive_that_does_not_answer(
    path: Path, named: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """apt's last line is the reason; the archive is the system's, or the named one."""
    tools(path)
    program(path, "apt-config", "echo 'Acquire::Retries \"1\";'")
    program(path, "apt-get", 'case "$*" in *indextargets*) echo "http://a.example/debian/|trixie|Debian";;'
            ' *) echo "first" >&2; echo "E: no answer" >&2; exit 100;; esac')  # fmt: skip
    if named:
        monkeypatch.setenv(sysroot.ARCHIVE, "http://b.example/debian")
    with pytest.raises(Missing, match=r"^apt finds no archive: E: no answer$"):
        sysroot.bring()
    sources = (tmp_path / "cache/apt/sources.list").read_text().splitlines()
    uri = "http://b.example/debian" if named else "http://a.example/debian/"
    assert [line.split("] ")[1] for line in sources] == [f"{uri} sid main", f"{uri} bookworm main"]
    settings = (tmp_path / "cache/apt/apt.conf").read_text()
    assert settings.startswith('Acquire::Retries "1";')
    assert 'APT::Architecture "arm64";' in settings


def brought(folder: Path, checked: float) -> None:
    (folder / "root-1/usr/lib").mkdir(parents=True)
    about = {"root": "root-1", "version": "26.2.6-1", "checked": checked}
    (folder / "about.json").write_text(json.dumps(about))


def compiler(path: Path) -> None:
    program(path, "aarch64-linux-gnu-gcc", 'while [ "$1" != -o ]; do shift; done; echo > "$2"')


def test_an_outage_leaves_the_older_system(path: Path, tmp_path: Path) -> None:
    tools(path)
    compiler(path)
    brought(tmp_path / "cache", time.time() - 2 * sysroot.FRESH)
    program(path, "apt-config", "exit 1")
    found = sysroot.bring()
    assert (found.version, found.mesa) == ("26.2.6-1", "26.2.6")
    assert found.shim.is_file()


def test_a_system_of_this_day_needs_no_registry(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("asks a registry")

    tools(path)
    compiler(path)
    brought(tmp_path / "cache", time.time() - 60)
    monkeypatch.setattr(sysroot, "_renew", never)
    found = sysroot.bring()
    command = found.command(Path("x.py"), "a")
    assert command[:4] == ["env", "-u", "LD_PRELOAD", str(path / "qemu-aarch64-static")]
    assert command[-3:] == ["-P", "x.py", "a"]
    (tmp_path / "cache/about.json").write_text("{")
    with pytest.raises(AssertionError):
        sysroot.bring()


def test_exit_status(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sysroot.main() == sysroot.UNREACHABLE == 3
    assert capsys.readouterr().err == "upstream: no qemu-aarch64: install qemu-user\n"
