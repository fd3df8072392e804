"""What ONNX Runtime is asked."""

from __future__ import annotations

from teflon.errors import DriverUnavailable
from teflon.ir.graph import Op
from teflon.ir.types import DType
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

    def untried(self, op: Op) -> bool:
        """Only neighbours can exchange tensors of types that we cannot name: they are compiled
        together, and refused then if one of them cannot run.
        """
        return any(v.type.dtype is DType.OTHER for v in (*op.inputs_present, *op.results))

    def host(self) -> Host:
        from teflon_onnxruntime.host import OnnxRuntimeHost

        if not found():
            raise DriverUnavailable(f"{MISSING} ({CURE})")
        return OnnxRuntimeHost(fast=self.known, threads=thread_count(self.options))
