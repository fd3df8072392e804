"""Find the optional folder of models and recordings that large tests read.

`SHARED`, `MODELS` and `GOLDEN` are folders or None, so that a test module can list files while
pytest collects. A test that reads them carries `@needs_shared`: it is skipped where the data is
missing. With TEFLON_REQUIRE_SHARED=1 the whole run is refused instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""


def _find_shared() -> Path | None:
    named = os.environ.get("TEFLON_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder.resolve() if folder.is_dir() else None


def _inside(name: str) -> Path | None:
    folder = SHARED / name if SHARED else None
    return folder if folder and folder.is_dir() else None


SHARED = _find_shared()
"""The data folder: variable TEFLON_SHARED, else `shared` beside the repository."""
MODELS = _inside("models")
"""Whole public models."""
GOLDEN = _inside("golden")
"""Recordings of what another driver submitted, with their models."""
VENDOR = _inside("vendor")
"""What a vendor's compiler wrote, a folder for each chip family."""

REQUIRED = os.environ.get("TEFLON_REQUIRE_SHARED", "") not in ("", "0")
MISSING = (
    ""
    if MODELS and GOLDEN
    else f"no shared data: {SHARED or ROOT.parent / 'shared'} has no models and golden folders"
    " (set TEFLON_SHARED to the folder that has them)"
)
"""Why tests marked `needs_shared` cannot run; empty where they can."""

needs_shared = pytest.mark.needs_shared
"""Mark of tests that read SHARED."""
