"""Teflon for Python: run quantised models on open-driver NPUs, or on simulators of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    **options: object,
) -> Runner:
    """Load a model into a device: a .tflite file, a compiled model (.teflon), a graph's text (.ir).

    `path` may also be the bytes of such a file.
    `device` is a spec: `auto`, a driver, a node, `sim:rk3588`, `cpu` (see `teflon.devices`);
    `cores` how many cores of that chip may work, or `all`, and `mode` how they share the work:
    `throughput`, each runs whole inferences; `latency`, one inference is divided between them where
    the model of time says that it pays. The options are the driver's, for example `strategy`,
    and `cache` (a folder, or `off`). Raises ModelError for a file that cannot be read, ProgramError
    for a compiled one that is damaged or made for another device, OptionError, DriverUnavailable.
    """
    from teflon.run import load as run

    return run.load(path, device, cores, mode, options)


def list_devices() -> list[DeviceInfo]:
    """Return every device that can be named here; those that cannot be used say why."""
    from teflon.devices import devices

    return devices()


def delegate_path() -> str:
    """Return where `libteflon.so` lies: the TFLite external delegate for any program.

    Raises DriverUnavailable where this installation lacks it.
    """
    from teflon.frontend.delegate.library import path

    return path()


def tflite_delegate(runtime: str = "", **options: object) -> Any:
    """Return a delegate for a TFLite interpreter: `Interpreter(..., experimental_delegates=[it])`.

    `runtime` is the package whose interpreter it is for: `ai_edge_litert`, `tflite_runtime` or
    `tensorflow`; without one, the first that is imported or else installed. The options are
    `device`, `debug` and the driver's. Raises DriverUnavailable, OptionError.
    """
    from teflon.frontend.delegate.library import create

    return create(runtime, options)


def __getattr__(name: str) -> Any:
    """Find the version, and the modules `digits` and `models`, when they are first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("teflon-npu")
    if name in ("digits", "models"):
        from importlib import import_module

        return import_module(f"teflon.samples.{name}")
    raise AttributeError(f"module 'teflon' has no attribute {name!r}")
