"""Environments of other TFLite runtimes, each made once in a cache folder by pip."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import platformdirs
import pytest

from tests.paths import REQUIRED

OLD_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2")
"""The last release of the runtime that Mesa's documentation names; for CPython up to 3.11."""
NEWEST_PYTHON = (3, 11)


def old_runtime() -> Path:
    """Return the Python of an environment with tflite-runtime; libteflon.so brings our packages.

    Skips the calling test where that cannot be had; fails it with TEFLON_REQUIRE_SHARED=1.
    """
    if sys.version_info[:2] > NEWEST_PYTHON:
        pytest.skip("tflite-runtime 2.14 has no build for Python after 3.11")
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    folder = platformdirs.user_cache_path("teflon") / "tests" / f"tflite-runtime-2.14.0-{tag}"
    if not folder.exists() and (reason := _made(folder)):
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return folder / "bin" / "python"


def _made(folder: Path) -> str:
    """Make the environment, whole or not at all; return why that failed, empty if it did not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as name:
        fresh = Path(name) / "venv"
        venv.create(fresh, with_pip=True)
        command = [str(fresh / "bin" / "python"), "-m", "pip", "install", "-q", *OLD_RUNTIME]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            return f"pip cannot install tflite-runtime: {done.stderr.strip()[-300:]}"
        with contextlib.suppress(OSError):  # another test process was first
            fresh.rename(folder)
    return ""


def environment() -> dict[str, str]:
    """Return variables for a program of another environment: none of this one's."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    return {k: v for k, v in os.environ.items() if k not in ours}
