"""The devices of a subsystem that libudev finds without its daemon, as JSON."""

from __future__ import annotations

import ctypes
import json
import sys

_udev = ctypes.CDLL("libudev.so.1")
for _name in ("udev_new", "udev_enumerate_new", "udev_enumerate_get_list_entry",
              "udev_list_entry_get_next", "udev_device_new_from_syspath"):  # fmt: skip
    getattr(_udev, _name).restype = ctypes.c_void_p
for _name in ("udev_list_entry_get_name", "udev_device_get_devnode", "udev_device_get_sysname"):
    getattr(_udev, _name).restype = ctypes.c_char_p


def _pointer(value: int | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(value)


def devices(subsystem: bytes) -> dict[str, str]:
    """Return the nodes by the path in /sys."""
    context = _pointer(_udev.udev_new())
    listed = _pointer(_udev.udev_enumerate_new(context))
    _udev.udev_enumerate_add_match_subsystem(listed, subsystem)
    _udev.udev_enumerate_scan_devices(listed)
    entry = _udev.udev_enumerate_get_list_entry(listed)
    found = {}
    while entry:
        path = _udev.udev_list_entry_get_name(_pointer(entry))
        device = _pointer(_udev.udev_device_new_from_syspath(context, path))
        node = _udev.udev_device_get_devnode(device) if device else None
        found[path.decode()] = (node or b"").decode()
        entry = _udev.udev_list_entry_get_next(_pointer(entry))
    return found


if __name__ == "__main__":
    print(json.dumps(devices(sys.argv[1].encode())))
