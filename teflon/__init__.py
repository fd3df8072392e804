"""Teflon for Python: run quantised models on open-driver NPUs, or on simulators of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "teflon: this Python runs without its global lock (free-threaded), must run with it: set"
        " PYTHON_GIL=1, or use a usual build (our loops in C have not been tried without it)"
    )

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from teflon.devices import DeviceInfo
    from teflon.pipe import Source
    from teflon.run.runner import Runner
    from teflon.samples import digits, models

__all__ = [
    "__version__",
    "delegate_path",
    "digits",
    "list_devices",
    "load",
    "models",
    "tflite_delegate",
]


def load(
    path: Source,
    device: str = "auto",
    *,
    cores: int | str = 1,
    mode: str = "throughput",
    shapes: Mapping[str, Sequence[int]] | None = None,
    **options: object,
) -> Runner:
    """Load a model into a device: a .tflite or .onnx file, a compiled model (.teflon), a graph's
    text (.ir).

    `path` may also be the bytes of such a file. `device` is a spec: `auto`, a driver, a node,
    `sim:rk3588`, `cpu` (see `teflon.devices`). `cores` is the number of the chip's cores that work,
    or `all`. `mode` says how they share the work: with `throughput`, each core runs whole
    inferences; with `latency`, one inference is divided between the cores if the model of time
    predicts that this is faster. `shapes` are new shapes of inputs by name: `{"input": (4, 96,
    96, 3)}`.

    The options are `cache` (a folder, or `off`), `cpu` and `threads`, and those of the driver, for
    example `strategy`. `cpu` says who runs what the device leaves: `reference` computes every bit
    as TFLite's reference kernels do; `tflite` hands it to an installed TFLite runtime, with its
    fast kernels and `threads` threads. Operations that only a model's own runtime knows run there
    in both cases.

    Raises ModelError for a file that cannot be read, ProgramError for a compiled model that is
    damaged or made for another device, UnsupportedOperation if nothing here can run an operation,
    OptionError, DriverUnavailable.
    """
    from teflon.run import load as run

    return run.load(path, device, cores, mode, options, shapes)


def list_devices() -> list[DeviceInfo]:
    """Return every device that `load` accepts here; `problem` says why one cannot be used."""
    from teflon.devices import devices

    return devices()


def delegate_path() -> str:
    """Return the path of `libteflon.so`, the TFLite external delegate for any program.

    Raises DriverUnavailable if this installation lacks it.
    """
    from teflon.frontend.delegate.library import path

    return path()


def tflite_delegate(runtime: str = "", **options: object) -> Any:
    """Return a delegate for a TFLite interpreter: `Interpreter(..., experimental_delegates=[it])`.

    `runtime` is the package of the interpreter: `ai_edge_litert`, `tflite_runtime` or
    `tensorflow`; the default is the first one that is already imported, else the first one that is
    installed. The options are `device`, `cache`, `debug` and those of the driver.

    Raises DriverUnavailable, OptionError.
    """
    from teflon.frontend.delegate.library import create

    return create(runtime, options)


def __getattr__(name: str) -> Any:
    """Find the version, and import the modules `digits` and `models`, on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("teflon-npu")
    if name in ("digits", "models"):
        from importlib import import_module

        return import_module(f"teflon.samples.{name}")
    raise AttributeError(f"module 'teflon' has no attribute {name!r}")
