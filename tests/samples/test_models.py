"""The table of models: search order, verification before anything is kept."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teflon.errors import ModelError, OptionError
from teflon.samples import models
from tests.paths import MODELS, needs_shared

CONTENT = b"not a model, but the right bytes"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("TEFLON_MODELS", raising=False)
    return tmp_path / "cache"


def publish(monkeypatch: pytest.MonkeyPatch, data: bytes, **changes: str) -> models.PublicFile:
    """Make `yolox` a file with CONTENT's checksum whose download brings `data`."""
    old = models.entry_of("yolox")
    assert isinstance(old, models.PublicFile)
    entry = replace(old, sha256=hashlib.sha256(CONTENT).hexdigest(), **changes)
    monkeypatch.setattr(models, "PUBLIC", (entry,))

    def download(_self: Any, _url: str, target: str, _pooch: object) -> None:
        Path(target).write_bytes(data)

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    return entry


def test_fetch_keeps_the_right_bytes_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = publish(monkeypatch, CONTENT)
    path = models.fetch("yolox")
    assert path == cache / entry.file
    assert path.read_bytes() == CONTENT
    publish(monkeypatch, b"must not be asked for again")
    assert models.fetch("yolox") == path == models.find("yolox")


def test_fetch_refuses_other_bytes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = publish(monkeypatch, b"something else")
    with pytest.raises(
        ModelError, match=rf"^{re.escape(entry.url)}: SHA-256 is .*nothing was stored"
    ):
        models.fetch("yolox")
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_fetch_reads_the_member_of_an_archive(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("wanted.tflite", CONTENT)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo("./folder/wanted.tflite")
            info.size = len(CONTENT)
            archive.addfile(info, io.BytesIO(CONTENT))
    publish(monkeypatch, buffer.getvalue(), member="wanted.tflite")
    assert models.fetch("yolox").read_bytes() == CONTENT
    publish(monkeypatch, buffer.getvalue(), member="other.tflite", file="other.tflite")
    with pytest.raises(ModelError, match=r"other\.tflite"):
        models.fetch("yolox")


def test_fetch_refuses_a_broken_archive(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, b"<html>not found</html>", member="wanted.tflite")
    with pytest.raises(ModelError, match=r"is not a readable archive"):
        models.fetch("yolox")


def test_fetch_says_why_a_download_failed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", unreachable)
    with pytest.raises(
        ModelError, match=r"download failed, Network is unreachable .*TEFLON_MODELS"
    ):
        models.fetch("mobiledet")


def test_folders_of_the_variable_come_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine" / "yolox.tflite"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    monkeypatch.setenv("TEFLON_MODELS", f"{tmp_path / 'nowhere'}:{mine.parent}")
    assert models.find("yolox") == mine
    assert models.resolve("yolox") == mine


def test_resolve_names_the_cure(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"teflon models fetch yolox"):
        models.resolve("yolox")
    assert models.resolve("some/path.tflite") == Path("some/path.tflite")
    with pytest.raises(
        OptionError, match=r"^model 'yolo': is not known, must be one of digits_int8"
    ):
        models.find("yolo")


@pytest.mark.parametrize("entry", models.SHIPPED, ids=lambda e: e.name)
def test_shipped_files_are_there(cache: Path, entry: models.ShippedFile) -> None:
    assert models.find(entry.name)


@needs_shared
@pytest.mark.parametrize("entry", models.PUBLIC, ids=lambda e: e.name)
def test_checksums_are_those_of_the_real_files(entry: models.PublicFile) -> None:
    assert MODELS
    assert hashlib.sha256((MODELS / entry.file).read_bytes()).hexdigest() == entry.sha256


def test_coco_labels_are_ninety_numbers_eighty_of_them_used(cache: Path) -> None:
    path = models.find("coco_labels")
    assert path
    labels = path.read_text().splitlines()
    assert len(labels) == 90
    assert sum(label != "???" for label in labels) == 80
    assert (labels[0], labels[16], labels[89]) == ("person", "cat", "toothbrush")
