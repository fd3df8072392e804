"""What recordings need to know about rocket: its requests, its command lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from teflon_common.caller import Reader, copy_from_user
from teflon_common.recording import Bytes, Dialect, NewBuffer, Pointer
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import uapi
from teflon_rocket.addresses import addresses
from teflon_rocket.text.commands import text

COMMAND_BYTES = 8


class RocketDialect(Dialect):
    """Rocket's requests and 64-bit register commands."""

    interface = uapi.ROCKET
    command_bytes = COMMAND_BYTES

    def entry(
        self, ioctl: Ioctl, argument: Struct, read: Reader = copy_from_user
    ) -> dict[str, Any]:
        return uapi.log_entry(ioctl, argument, read)

    def created(self, ioctl: Ioctl, argument: Struct) -> NewBuffer | None:
        if not isinstance(argument, uapi.CreateBo):
            return None
        return NewBuffer(argument.handle, argument.size, argument.dma_address, argument.offset)

    def commands(self, entry: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
        return [
            (address, COMMAND_BYTES * count)
            for job in entry["jobs"]
            for address, count in job["tasks"]
        ]

    def pointers(self, commands: Bytes, role: str = "regcmd") -> Iterable[Pointer]:
        return [
            Pointer(offset, "regcmd_value", address, role)
            for offset, role, address in addresses(commands)
        ]

    def text(self, commands: bytes) -> str:
        return text(commands)
