"""Buffers of the kernel: made, mapped, synchronised, closed; errors with their cure."""

from __future__ import annotations

import contextlib
import errno

import numpy as np
import numpy.typing as npt

from teflon.errors import DeviceError, TeflonError
from teflon.pipe import Winsys
from teflon_common import drm
from teflon_common.drm import GEM_CLOSE, GemClose, Request, call
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import uapi
from teflon_rocket.program import ADDRESS_END

# Ref: docs/hardware/rocket.md §2.2

CURES = drm.CURES | {
    errno.EINVAL: "the kernel driver does not know this request: is its version newer than ours?",
}


class BufferObject:
    """A buffer of the kernel, mapped for as long as it lives; one thread at a time may use it."""

    def __init__(self, winsys: Winsys, size: int) -> None:
        """Create and map a buffer. Raises DeviceError."""
        self._winsys = winsys
        made = call(winsys, uapi.ROCKET, uapi.CREATE_BO, uapi.CreateBo(size=size), CURES)
        self.handle, self.address = made.handle, made.dma_address
        self._prepare = self._request(uapi.PREP_BO, uapi.PrepBo(handle=made.handle), "timeout_ns")
        self._finish = self._request(uapi.FINI_BO, uapi.FiniBo(handle=made.handle))
        try:
            if self.address + size > ADDRESS_END:
                raise DeviceError(
                    f"rocket CREATE_BO: {size} bytes lie at {self.address:#x}, must end below "
                    f"{ADDRESS_END:#x} (the NPU's registers have 32 bits: close other models)"
                )
            what = f"rocket mmap(handle={self.handle}, size={size})"
            view = drm.map_buffer(winsys, what, made.offset, size, CURES)
            self.memory: npt.NDArray[np.uint8] = np.frombuffer(view, np.uint8)
        except TeflonError:
            with contextlib.suppress(TeflonError):  # the first error is reported
                self.close()
            raise

    def _request(self, ioctl: Ioctl, argument: Struct, *changing: str) -> Request:
        return Request(self._winsys, uapi.ROCKET, ioctl, argument, CURES, changing)

    def prepare(self, deadline_ns: int = uapi.FOREVER) -> None:
        """Wait until no job writes the buffer, then let the CPU see what they wrote."""
        self._prepare.send(deadline_ns)

    def finish(self) -> None:
        """Let the device see what the CPU wrote."""
        self._finish.send()

    def close(self) -> None:
        """Close the handle; the mapping stays until nothing uses it any more."""
        call(self._winsys, uapi.ROCKET, GEM_CLOSE, GemClose(handle=self.handle), CURES)
