"""The libraries that quantise: imported when they are needed, silent, their errors as ours."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from teflon.errors import ModelError, TeflonError

EXTRA = "pip install 'teflon-npu[quantize]'"


def library(module: str, package: str) -> Any:
    """Import a module of a package of the extra `quantize`.

    Raises TeflonError with the `pip install` if the package is missing or broken.
    """
    top = module.partition(".")[0]
    try:
        with quiet():
            importlib.import_module(top)
            return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") == top
        what = "is not installed" if missing else f"cannot be imported, {error}"
        raise TeflonError(
            f"package {package}: {what}, must be there to quantise ({EXTRA})"
        ) from error


@contextlib.contextmanager
def quiet(*, native: bool = True) -> Iterator[None]:
    """Hide what libraries tell about themselves: warnings, log lines, progress bars of their own.

    With `native`, also what C++ parts write to stderr: then nobody can show progress inside.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if native:
                stack.enter_context(_no_stderr())
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere."""
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
