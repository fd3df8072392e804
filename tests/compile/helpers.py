"""Keys of the tests of the compile cache, and what lies in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon.compile.cache import Cache

KEY, OTHER = b"k" * 32, b"o" * 32


def files(store: Cache) -> list[Path]:
    return sorted(store.folder.iterdir()) if store.folder and store.folder.exists() else []


def run(path: str | Path, **options: Any) -> dict[str, Any]:
    with teflon.load(path, "sim:rk3588", **options) as model:
        shapes = {i.name: np.ones(i.shape, i.dtype) for i in model.inputs}
        return model(shapes)
