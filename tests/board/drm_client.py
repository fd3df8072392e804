"""What libdrm says of the nodes of a board, as JSON; run under `teflon board`."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any


class _Bus(ctypes.Structure):
    _fields_ = (("fullname", ctypes.c_char * 512),)


class _Info(ctypes.Structure):
    _fields_ = (("compatible", ctypes.POINTER(ctypes.c_char_p)),)


class _Device(ctypes.Structure):
    # Ref: libdrm, xf86drm.h (struct _drmDevice)
    _fields_ = (
        ("nodes", ctypes.POINTER(ctypes.c_char_p)),
        ("available_nodes", ctypes.c_int),
        ("bustype", ctypes.c_int),
        ("businfo", ctypes.POINTER(_Bus)),
        ("deviceinfo", ctypes.POINTER(_Info)),
    )


class _Version(ctypes.Structure):
    # Ref: libdrm, xf86drm.h (struct _drmVersion)
    _fields_ = (
        ("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int),
        ("name_length", ctypes.c_int), ("name", ctypes.c_char_p),
        ("date_length", ctypes.c_int), ("date", ctypes.c_char_p),
        ("about_length", ctypes.c_int), ("about", ctypes.c_char_p),
    )  # fmt: skip


PRIMARY, _, RENDER = range(3)
_drm = ctypes.CDLL("libdrm.so.2", use_errno=True)
_drm.drmGetVersion.restype = ctypes.POINTER(_Version)
for _name in ("drmGetRenderDeviceNameFromFd", "drmGetPrimaryDeviceNameFromFd",
              "drmGetDeviceNameFromFd", "drmGetDeviceNameFromFd2"):  # fmt: skip
    getattr(_drm, _name).restype = ctypes.c_char_p


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _devices() -> list[dict[str, Any]]:
    found = (ctypes.POINTER(_Device) * 16)()
    count = _drm.drmGetDevices2(0, found, 16)
    if count < 0:
        raise OSError(-count, os.strerror(-count))
    return [
        {
            "bus": device.contents.bustype,
            "name": _text(device.contents.businfo.contents.fullname),
            "compatible": _text(device.contents.deviceinfo.contents.compatible[0]),
            "nodes": {
                kind: _text(device.contents.nodes[kind])
                for kind in (PRIMARY, RENDER)
                if device.contents.available_nodes >> kind & 1
            },
        }
        for device in found[:count]
    ]


def _node(path: str) -> dict[str, Any]:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    version = _drm.drmGetVersion(fd)
    of_fd = ctypes.POINTER(_Device)()
    said = {
        "version": _text(version.contents.name) if version else "",
        "type": _drm.drmGetNodeTypeFromFd(fd),
        "render": _text(_drm.drmGetRenderDeviceNameFromFd(fd)),
        "primary": _text(_drm.drmGetPrimaryDeviceNameFromFd(fd)),
        "name": _text(_drm.drmGetDeviceNameFromFd(fd)),
        "name2": _text(_drm.drmGetDeviceNameFromFd2(fd)),
        "device": _drm.drmGetDevice2(fd, 0, ctypes.byref(of_fd)),
    }
    os.close(fd)
    return said


if __name__ == "__main__":
    nodes = {path: _node(path) for path in sys.argv[1:]}
    print(json.dumps({"devices": _devices(), "nodes": nodes}))
