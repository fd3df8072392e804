"""The bytes of model files: frontends read them, and constants of graphs are views of them."""

from __future__ import annotations

import os

from teflon.errors import ModelError
from teflon.files import contents


def map_file(path: str | os.PathLike[str], kind: str) -> memoryview:
    """Return a file's bytes as a memory map: the kernel reads a page on its first use.

    It is a copy where the limits of the model forbid maps. `kind` says in messages what the file
    must be: `a .tflite file`. Raises ModelError for a file that cannot be read, is too large or is
    empty.
    """
    name = os.fsdecode(path)
    try:
        found = contents(path)
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}, must be a readable file") from error
    if not found.nbytes:
        raise ModelError(f"{name}: is empty, must be {kind}")
    return found
