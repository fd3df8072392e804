"""Arrays in .npy and .npz files of strangers: bounded, and without pickles.

numpy's own reader allocates what a header says before it reads, follows the compression to any
size, and lets errors of several libraries through. Here sizes are compared first.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from teflon.files import open_regular

Array = npt.NDArray[Any]

MOST_BYTES = 1 << 30
"""What all arrays of a file may have together."""
MOST_ARRAYS = 1 << 16
_HEADER = 1 << 16
"""Bytes of an array's header."""
_PIECE = 1 << 24
OBJECTS = "holds Python objects, must hold numbers"
_MAGIC = b"\x93NUMPY"
_PLAIN = "biufcSU"
"""Kinds of elements: truth values, numbers, texts of one length."""


class Unreadable(ValueError):
    """A file has no such arrays; the text is a clause that says what is wrong."""


def read_npz(
    path: str | os.PathLike[str], *names: str, most: float = MOST_BYTES
) -> dict[str, Array]:
    """Return the arrays of a .npz file by name, or only those that are named.

    Raises Unreadable for any other file, for arrays of objects, and for more than `most` bytes when
    unpacked; OSError.
    """
    with _opened(path) as file, _problems(), zipfile.ZipFile(file) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        chosen = {n: m for n, m in members.items() if not names or n in names}
        if len(members) > MOST_ARRAYS:
            raise Unreadable(f"has {len(members)} arrays, must have at most {MOST_ARRAYS}")
        total = sum(member.file_size for member in chosen.values())
        if total > most:
            raise Unreadable(f"has {total} bytes when unpacked, must have at most {most}")
        return {name: _member(archive, member) for name, member in chosen.items()}


def read_npy(path: str | os.PathLike[str]) -> Array:
    """Return the array of a .npy file. Raises as `read_npz` does."""
    with _opened(path) as file, _problems():
        return _array(_read(file, os.fstat(file.fileno()).st_size), "the array")


def is_npz(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a .npz file. Raises OSError."""
    with _opened(path) as file:
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    with open(open_regular(path), "rb") as file:
        yield file


@contextmanager
def _problems() -> Iterator[None]:
    """Turn what the libraries raise into Unreadable: zipfile, zlib, ast, tokenize, struct..."""
    try:
        yield
    except (Unreadable, OSError, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"is damaged ({type(error).__name__}: {error})") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable(f"{member.filename!r:.80} is compressed in another way than deflate")
    if member.flag_bits & 1:
        raise Unreadable(f"{member.filename!r:.80} is encrypted, must not be")
    with archive.open(member) as file:
        data = _read(file, member.file_size)
    return _array(data, repr(member.filename)[:80])


def _read(file: IO[bytes], size: int) -> bytearray:
    """Return so many bytes, less at the end of the file; memory grows with what is there."""
    found = bytearray()
    while len(found) < size and (piece := file.read(min(size - len(found), _PIECE))):
        found += piece
    return found


def _array(data: bytearray, name: str) -> Array:
    """Return the array in the bytes of a .npy file, which it uses."""
    if data[:6] != _MAGIC:
        raise Unreadable(f"{name} is no array in numpy's format")
    file = io.BytesIO(data[:_HEADER])
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise Unreadable(f"{name} has the format version {version}, must have 1.0 or 2.0")
    shape, by_column, dtype = readers[version](file)
    if dtype.hasobject:
        raise Unreadable(OBJECTS)
    if dtype.kind not in _PLAIN:
        raise Unreadable(f"{name} holds {dtype!s:.40}, must hold numbers")
    size, start = math.prod(shape) * dtype.itemsize, file.tell()
    if min(shape, default=0) < 0 or size != len(data) - start:
        raise Unreadable(f"{name} has {len(data) - start} bytes, must have {size}")
    found = np.frombuffer(data, dtype, math.prod(shape), start)
    return found.reshape(shape, order="F" if by_column else "C")
