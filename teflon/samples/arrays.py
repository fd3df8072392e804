"""Arrays in .npy and .npz files of the user."""

from __future__ import annotations

import math
from typing import Any

from teflon.errors import OptionError
from teflon.npz import OBJECTS, Array, Unreadable, is_npz, read_npy, read_npz


def named_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an .npz file by name. Raises OptionError."""
    archive = _read_numpy(path, "npz")
    if not isinstance(archive, dict):
        raise OptionError(f"{path}: holds one array without a name, must be an .npz file")
    return archive


def one_array(path: str) -> Array:
    """Return the array of an .npy file. Raises OptionError."""
    array: Any = _read_numpy(path, "npy")
    if isinstance(array, dict):
        raise OptionError(f"{path}: holds several arrays, must hold one (name it .npz)")
    return array  # type: ignore[no-any-return]


def _read_numpy(path: str, form: str) -> dict[str, Array] | Array:
    """Return what is in a file of either form. Raises OptionError."""
    try:
        return read_npz(path, most=math.inf) if is_npz(path) else read_npy(path)
    except OSError as error:
        raise OptionError(f"{path}: cannot be read, {error.strerror or error}") from error
    except Unreadable as error:
        what = "" if str(error) == OBJECTS else f"is not a readable .{form} file, "
        raise OptionError(f"{path}: {what}{error}") from error
