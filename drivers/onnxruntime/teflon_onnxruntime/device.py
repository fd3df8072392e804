"""What ONNX Runtime is asked."""

from __future__ import annotations

from teflon.errors import DriverUnavailable
from teflon_common.hosted.device import HostedDevice
from teflon_common.hosted.host import Host
from teflon_common.hosted.options import thread_count
from teflon_onnxruntime.runtimes import CURE, MISSING, found


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
