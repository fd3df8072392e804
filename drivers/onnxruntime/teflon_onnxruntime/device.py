"""What ONNX Runtime is asked, and whether it is there."""

from __future__ import annotations

import functools
import importlib.util

from teflon.errors import DriverUnavailable
from teflon_common.hosted.device import HostedDevice
from teflon_common.hosted.host import Host
from teflon_common.hosted.options import thread_count

CURE = "pip install 'teflon-npu[onnx]'"
MISSING = "onnxruntime is not installed"


@functools.cache
def found() -> str:
    """Return the name of the package; empty if it is not installed. It is not imported."""
    try:
        return "onnxruntime" if importlib.util.find_spec("onnxruntime") is not None else ""
    except (ImportError, ValueError):  # a package that is only half there
        return ""


class OnnxRuntimeDevice(HostedDevice):
    """Takes what ONNX Runtime runs on the processor."""

    driver = "onnxruntime"
    chip = "onnxruntime"
    form = "onnx"
    format_name = "an .onnx"
    version = "1"

    def runtime(self) -> str:
        return found()

    def host(self) -> Host:
        from teflon_onnxruntime.host import OnnxRuntimeHost

        if not found():
            raise DriverUnavailable(f"{MISSING} ({CURE})")
        return OnnxRuntimeHost(fast=self.known, threads=thread_count(self.options))
