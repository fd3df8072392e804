"""Models by name: some are in the package, others are downloaded from their publishers.

`find` looks for a file in the folders of TEFLON_MODELS (separated as in PATH), in the package, then
in the user's cache. Only `fetch` downloads, and it keeps a file only if its SHA-256 is that of the
table.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from teflon.errors import ModelError, OptionError, TeflonError


@dataclass(frozen=True)
class PublicFile:
    """A file that others publish: its address and its SHA-256."""

    name: str
    file: str
    summary: str
    licence: str
    url: str
    sha256: str
    member: str = ""  # the file's name in the archive at `url`; empty if `url` is the file itself


@dataclass(frozen=True)
class ShippedFile:
    """A file that is part of the package."""

    name: str
    file: str
    summary: str
    licence: str = "MIT"


_TENSORFLOW = "https://storage.googleapis.com/download.tensorflow.org/models"
_MESA = (
    "https://gitlab.freedesktop.org/mesa/mesa/-/raw/main/src/gallium/targets/teflon/tests/models"
)

PUBLIC = (
    PublicFile(
        "mobilenet_v1", "mobilenet_v1_1.0_224_quant.tflite",
        "ImageNet classifier, uint8, 224x224", "Apache-2.0",
        f"{_TENSORFLOW}/mobilenet_v1_2018_08_02/mobilenet_v1_1.0_224_quant.tgz",
        "1ef5ede54c9b41908ef433930133ef4261b0d87b2f8e07d6b3c98df978e7160b",
        "mobilenet_v1_1.0_224_quant.tflite",
    ),
    PublicFile(
        "mobilenet_v1_labels", "labels_mobilenet_quant_v1_224.txt",
        "the 1001 labels of mobilenet_v1", "Apache-2.0",
        f"{_TENSORFLOW}/tflite/mobilenet_v1_1.0_224_quant_and_labels.zip",
        "536feacc519de3d418de26b2effb4d75694a8c4c0063e36499a46fa8061e2da9",
        "labels_mobilenet_quant_v1_224.txt",
    ),
    PublicFile(
        "mobiledet", "ssdlite_mobiledet_coco_qat_postprocess.tflite",
        "COCO detector with post-processing, uint8, 320x320", "Apache-2.0",
        "https://github.com/google-coral/test_data/raw/master/"
        "ssdlite_mobiledet_coco_qat_postprocess.tflite",
        "90bb33a634e041914cc1819aa5df99818e6c396c4d2db952c0fd7a9cffc4724f",
    ),
    PublicFile(
        "yolox", "yolox.tflite",
        "YOLOX detector with raw heads, uint8, 320x416", "Apache-2.0",
        f"{_MESA}/yolox/yolox.tflite",
        "ad0b1dac19121fa729ed4c8006b8f7f3c9ffa8e52c03e63646f1e6ad4b629bd6",
    ),
)  # fmt: skip

SHIPPED = (
    ShippedFile("digits_int8", "digits_int8.tflite", "digits classifier, int8, 8x8"),
    ShippedFile("digits_uint8", "digits_uint8.tflite", "digits classifier, uint8, 8x8"),
    ShippedFile("coco_labels", "coco_labels.txt", "the labels of COCO's 90 category numbers"),
)


def known() -> dict[str, PublicFile | ShippedFile]:
    """Return all files of the table by name, those of the package first."""
    return {entry.name: entry for entry in (*SHIPPED, *PUBLIC)}


def entry_of(name: str) -> PublicFile | ShippedFile:
    """Return the table's entry of a name. Raises OptionError for an unknown name."""
    table = known()
    if name not in table:
        raise OptionError(f"model {name!r}: is not known, must be one of {', '.join(table)}")
    return table[name]


def cache_folder() -> Path:
    """Return the folder for downloaded files; it may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_cache_path("teflon")) / "models"


def find(name: str) -> Path | None:
    """Return the path of a file of the table on this machine; None if it is not there.

    Raises OptionError for an unknown name.
    """
    entry = entry_of(name)
    folders = [Path(f) for f in os.environ.get("TEFLON_MODELS", "").split(os.pathsep) if f]
    places = [folder / entry.file for folder in folders]
    if isinstance(entry, ShippedFile):
        places.append(Path(str(resources.files("teflon.samples").joinpath("data", entry.file))))
    else:
        places.append(cache_folder() / entry.file)
    return next((place for place in places if place.is_file()), None)


def resolve(name_or_path: str) -> Path:
    """Return the file for a path or for a name of the table; an existing path has priority.

    Raises ModelError, with the cure, if the file of a name is not on this machine; OptionError for
    what is neither.
    """
    try:
        path = Path(name_or_path)
        os.fsencode(path)
        there = path.exists()
    except Exception as error:  # no path; a name that is too long; a class of the caller's
        from teflon.errors import shown

        raise OptionError(
            f"model: is {shown(name_or_path)}, must be a path or a name ({type(error).__name__})"
        ) from error
    if there or name_or_path not in known():
        return path
    if found := find(name_or_path):
        return found
    raise ModelError(
        f"model {name_or_path!r}: is not on this machine, must be fetched"
        f" (teflon models fetch {name_or_path}, or name its folder in TEFLON_MODELS)"
    )


def fetch(name: str, progress: bool = False) -> Path:
    """Return the file of a public model; download it into the cache if it is not on this machine.

    Raises OptionError for an unknown name, ModelError if the download fails or has another SHA-256;
    the cache stays unchanged then.
    """
    if found := find(name):
        return found
    entry = entry_of(name)
    if isinstance(entry, ShippedFile):
        raise ModelError(
            f"model {name!r}: is missing from this installation (reinstall teflon-npu)"
        )
    data = _member(entry, _download(entry, progress))
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise ModelError(
            f"{entry.url}: SHA-256 is {digest}, must be {entry.sha256} (the publisher has changed"
            " the file, or the download was manipulated; nothing was stored)"
        )
    return _keep(cache_folder() / entry.file, data)


def _download(entry: PublicFile, progress: bool) -> bytes:
    import pooch
    import requests

    with tempfile.TemporaryDirectory(prefix="teflon-") as folder:
        target = Path(folder) / "download"
        try:
            pooch.HTTPDownloader(progressbar=progress, timeout=30)(entry.url, str(target), None)
            return target.read_bytes()
        except (requests.RequestException, OSError, ValueError) as error:
            raise ModelError(
                f"{entry.url}: the download failed, {_reason(error)} (fetch the file yourself and"
                " name its folder in TEFLON_MODELS)"
            ) from error


def _reason(error: Exception) -> str:
    """Return the reason of a failed download, without details of the network libraries."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    return str(error)


def _member(entry: PublicFile, data: bytes) -> bytes:
    """Return the file inside an archive, or the data itself if it is not an archive."""
    if not entry.member:
        return data
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return zipfile.ZipFile(io.BytesIO(data)).read(entry.member)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                if Path(info.name).name == entry.member and (file := archive.extractfile(info)):
                    return file.read()
    except (tarfile.TarError, zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ModelError(f"{entry.url}: is not a readable archive, {error}") from error
    raise ModelError(f"{entry.url}: the archive has no {entry.member}, must have it")


def _keep(path: Path, data: bytes) -> Path:
    """Write a file; it is complete or does not exist."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            new = Path(folder) / path.name
            new.write_bytes(data)
            os.replace(new, path)
    except OSError as error:
        raise TeflonError(f"{path}: cannot be written, {error.strerror}") from error
    return path
