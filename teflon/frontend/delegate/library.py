"""Finding `libteflon.so`, and loading it into a TFLite runtime."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from teflon.errors import DriverUnavailable, OptionError

LIBRARY = "libteflon.so"

RUNTIMES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite",
}
"""Package -> the module that has `Interpreter` and `load_delegate`."""


def path() -> str:
    """Return the library's path. Raises DriverUnavailable if this installation lacks it."""
    from importlib.resources import files

    found = files("teflon").joinpath(LIBRARY)
    if not found.is_file():
        raise DriverUnavailable(
            f"{LIBRARY}: is not installed beside the package (install the wheel)"
        )
    return str(found)


def find(library: str) -> str:
    """Return the path to load for a delegate's name: an existing file, else our own library if the
    name is `libteflon.so`, else the name itself.
    """
    if Path(library).exists():  # the loader searches the system's folders for a bare name
        return str(Path(library).absolute())
    return path() if library == LIBRARY else library


def runtime_module(runtime: str = "") -> Any:
    """Return the module with the interpreter of a TFLite runtime.

    Without a name this is the first runtime that is imported already, else the first one that is
    installed. Raises OptionError for an unknown name, DriverUnavailable if it is not installed.
    """
    if not isinstance(runtime, str) or (runtime and runtime not in RUNTIMES):
        from teflon.errors import shown

        raise OptionError(f"runtime {shown(runtime)}: must be one of {', '.join(RUNTIMES)}")
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    wanted = [runtime] if runtime else [n for n in RUNTIMES if RUNTIMES[n] in sys.modules]
    for name in [*wanted, *([] if runtime else installed)]:
        try:
            return importlib.import_module(RUNTIMES[name])
        except ImportError as error:
            raise DriverUnavailable(
                f"{name}: cannot be imported ({error}), must be installed (pip install"
                f" {name.replace('_', '-')})"
            ) from error
    raise DriverUnavailable(
        "TFLite runtime: none is installed, one must be (pip install ai-edge-litert)"
    )


def create(runtime: str, options: Mapping[str, object]) -> Any:
    """Return a delegate object of a runtime. Raises DriverUnavailable with the reason."""
    module, library = runtime_module(runtime), path()
    given = {name: _option(name, item) for name, item in options.items() if item is not None}
    try:
        return module.load_delegate(library, given)
    except ValueError as error:
        _, _, reason = str(error).partition(library)
        raise DriverUnavailable(reason.strip().removeprefix("teflon: ") or str(error)) from error


def _option(name: str, item: object) -> str:
    """Return an option as the text that the C interface takes. Raises OptionError."""
    if item is False and name == "cache":
        return "off"
    text: object = None
    if isinstance(item, int | float):
        numeric = not isinstance(item, bool) and name not in ("record", "cache", "device")
        text = str(item) if numeric else None
    else:
        with suppress(Exception):  # no text and no path; a class of the caller's
            text = os.fspath(item)  # type: ignore[call-overload]
    if not isinstance(text, str):
        from teflon.errors import shown

        raise OptionError(f"option {name}: is {shown(item)}, must be a text")
    return text
