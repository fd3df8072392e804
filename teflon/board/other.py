"""A node of a kernel driver that we know nothing about: it answers VERSION and nothing else."""

from __future__ import annotations

import errno
import struct

from teflon.pipe import Caller, Complaints, Kernel, OpenFile, refuse

# Ref: Linux, include/uapi/drm/drm.h (drm_version), drivers/gpu/drm/drm_ioctl.c (unknown requests)

_VERSION = struct.Struct("<iii4xQQQQQQ")
_GROUP = ord("d")


class OtherKernel(Kernel):
    """Knows its name."""

    def __init__(self, name: str) -> None:
        self.name, self.complaints = name, Complaints()

    def open(self, record: bool = False, primary: bool = False) -> OpenFile:
        return _OtherFile(self.name)

    def request_name(self, request: int) -> str:
        return "VERSION" if request & 0xFFFF == _GROUP << 8 else f"{request:#x}"

    def decode(self, request: int, argument: bytes | bytearray) -> str:
        return f"{self.request_name(request)}({bytes(argument).hex()})"


class _OtherFile(OpenFile):
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def ioctl(self, request: int, argument: bytearray, caller: Caller) -> int:
        if request >> 8 & 0xFF != _GROUP or request & 0xFF or len(argument) != _VERSION.size:
            raise refuse(errno.EINVAL if request >> 8 & 0xFF == _GROUP else errno.ENOTTY)
        answered: list[int] = []
        numbers = _VERSION.unpack(argument)[3:]
        for size, pointer, text in zip(
            numbers[::2], numbers[1::2], (self._name, b"0", b"another device"), strict=True
        ):
            if pointer and size:
                caller.write(pointer, text[:size])
            answered += len(text), pointer
        argument[:] = _VERSION.pack(1, 0, 0, *answered)
        return 0

    def memory(self, offset: int, size: int) -> tuple[int, int]:
        raise refuse(errno.EINVAL)

    def close(self) -> None:
        """Do nothing: the file holds nothing."""

    def status(self) -> dict[str, int]:
        return {"handles": 0, "bytes": 0}
