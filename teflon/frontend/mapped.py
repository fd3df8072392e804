"""Memory maps of model files: frontends read them, and constants of graphs are views of them."""

from __future__ import annotations

import mmap
import os

from teflon.errors import ModelError


def map_file(path: str | os.PathLike[str], kind: str) -> memoryview:
    """Return a file's bytes as a memory map: the kernel reads a page on its first use.

    `kind` says in messages what the file must be: `a .tflite file`. Raises ModelError for a file
    that cannot be read or is empty.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}, must be a readable file") from error
    except ValueError as error:
        raise ModelError(f"{name}: is empty, must be {kind}") from error
