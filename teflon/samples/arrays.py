"""Arrays in .npy and .npz files."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from teflon.errors import OptionError
from teflon.ir.types import Array


def named_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an .npz file by name. Raises OptionError."""
    archive = _read_numpy(path, "npz")
    if isinstance(archive, np.ndarray):
        raise OptionError(f"{path}: holds one array without a name, must be an .npz file")
    try:
        with archive:
            return dict(archive)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise OptionError(f"{path}: is not a readable .npz file, {error}") from error


def one_array(path: str) -> Array:
    """Return the array of an .npy file. Raises OptionError."""
    array: Any = _read_numpy(path, "npy")
    if not isinstance(array, np.ndarray):
        raise OptionError(f"{path}: holds several arrays, must hold one (name it .npz)")
    return array


def _read_numpy(path: str, form: str) -> Any:
    """Return what numpy makes of a file. Raises OptionError."""
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise OptionError(f"{path}: cannot be read, {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if str(error).startswith("Object arrays"):
            raise OptionError(f"{path}: holds Python objects, must hold numbers") from error
        why = "" if "pickle" in str(error) else f", {error}"  # numpy takes any text for a pickle
        raise OptionError(f"{path}: is not a readable .{form} file{why}") from error
