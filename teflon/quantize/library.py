"""The libraries that quantise: imported when they are needed, silent, their errors as ours."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from teflon.errors import ModelError, TeflonError

EXTRA = "pip install 'teflon-npu[quantize]'"


def library(module: str, package: str) -> Any:
    """Import a module of a package of the extra `quantize`.

    Raises TeflonError with the `pip install` if the package is missing or broken.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        top = package.replace("-", "_")
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") == top
        what = "is not installed" if missing else f"cannot be imported, {error}"
        raise TeflonError(f"package {package}: {what}, must be there to quantise ({EXTRA})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what libraries tell about themselves: warnings, log lines, progress bars of their own.

    Also what their C++ parts write to stderr. What the caller shows must be shown outside.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), _no_stderr():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        sys.__stderr__ and sys.__stderr__.flush()  # type: ignore[func-returns-value]
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: nothing can be written there
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def reported(model: str, package: str) -> Iterator[None]:
    """Turn whatever a library raises about a model into a ModelError of one sentence."""
    try:
        yield
    except (TeflonError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # libraries raise anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{model}: {package} cannot quantise it, {text}") from error
