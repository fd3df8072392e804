"""The requests that the DRM core answers for every driver: numbers, structs, and who may make them.

Ref: Linux, include/uapi/drm/drm.h (numbers and structs), drivers/gpu/drm/drm_ioctl.c (drm_ioctls:
who may make which request; requests of the time before GEM are gone from it)
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from teflon_common.drm import GEM_CLOSE, VERSION
from teflon_common.structs import Ioctl, Struct, Uapi, address, s32, u32, u64


class Unread(Struct, size=0):
    """The argument of a request that is always refused."""


class GetUnique(Struct, size=16):
    """drm_unique: the bus of the device."""

    unique_len: int = u64()
    unique: int = address()


class Auth(Struct, size=4):
    """drm_auth: a number by which a master knows a client."""

    magic: int = u32()


class GetClient(Struct, size=40):
    """drm_client: who has opened the device."""

    idx: int = s32()
    auth: int = s32()
    pid: int = u64()
    uid: int = u64()
    magic: int = u64()
    iocs: int = u64()


class SetVersion(Struct, size=16):
    """drm_set_version: wanted versions of interface and driver, -1 for any; answers its own."""

    di_major: int = s32()
    di_minor: int = s32()
    dd_major: int = s32()
    dd_minor: int = s32()


class GemFlink(Struct, size=8):
    """drm_gem_flink: a name by which other clients open a buffer."""

    handle: int = u32()
    name: int = u32()


class GemOpen(Struct, size=16):
    """drm_gem_open: a handle for a buffer with a name."""

    name: int = u32()
    handle: int = u32()
    size: int = u64()


class GetStats(Struct, size=8):
    """drm_stats: how many counters follow; the kernel has none any more, all bytes are 0."""

    count: int = u64()


class GetCap(Struct, size=16):
    """drm_get_cap: what device and driver can do."""

    capability: int = u64()
    value: int = u64()


class PrimeHandle(Struct, size=12):
    """drm_prime_handle: a buffer of this file, and a dma_buf that any file can import."""

    handle: int = u32()
    flags: int = u32()
    fd: int = s32()


class SetClientName(Struct, size=16):
    """drm_set_client_name: how tools call this open file."""

    name_len: int = u64()
    name: int = address()


GET_UNIQUE = Ioctl("GET_UNIQUE", "wr", 0x01, GetUnique)
GET_MAGIC = Ioctl("GET_MAGIC", "r", 0x02, Auth)
GET_CLIENT = Ioctl("GET_CLIENT", "wr", 0x05, GetClient)
GET_STATS = Ioctl("GET_STATS", "r", 0x06, GetStats)
SET_VERSION = Ioctl("SET_VERSION", "wr", 0x07, SetVersion)
GEM_FLINK = Ioctl("GEM_FLINK", "wr", 0x0A, GemFlink)
GEM_OPEN = Ioctl("GEM_OPEN", "wr", 0x0B, GemOpen)
AUTH_MAGIC = Ioctl("AUTH_MAGIC", "w", 0x11, Auth)
SET_MASTER = Ioctl("SET_MASTER", "", 0x1E, Unread)
DROP_MASTER = Ioctl("DROP_MASTER", "", 0x1F, Unread)
GET_CAP = Ioctl("GET_CAP", "wr", 0x0C, GetCap)
PRIME_HANDLE_TO_FD = Ioctl("PRIME_HANDLE_TO_FD", "wr", 0x2D, PrimeHandle)
PRIME_FD_TO_HANDLE = Ioctl("PRIME_FD_TO_HANDLE", "wr", 0x2E, PrimeHandle)
SET_CLIENT_NAME = Ioctl("SET_CLIENT_NAME", "wr", 0xD1, SetClientName)

CAP_PRIME, CAP_TIMESTAMP_MONOTONIC, CAP_SYNCOBJ, CAP_SYNCOBJ_TIMELINE = 0x5, 0x6, 0x13, 0x14
CLOEXEC, RDWR = 0o2000000, 0o2
"""Flags of PRIME_HANDLE_TO_FD."""

AUTH, MASTER, ROOT, RENDER = 1, 2, 4, 8
"""Who may make a request: authenticated clients, the master, root, and clients of render nodes."""

_ONLY_ROOT = AUTH | MASTER | ROOT

_NO_DISPLAY, _NO_BUFFERS = errno.EOPNOTSUPP, errno.ENOSYS

_REFUSED: tuple[tuple[str, int, str, int, int], ...] = (
    ("SET_CLIENT_CAP", 0x0D, "w", 0, _NO_DISPLAY),
    ("SET_UNIQUE", 0x10, "w", _ONLY_ROOT, 0),
    ("BLOCK", 0x12, "wr", _ONLY_ROOT, 0),
    ("UNBLOCK", 0x13, "wr", _ONLY_ROOT, 0),
    ("ADD_DRAW", 0x27, "wr", _ONLY_ROOT, 0),
    ("RM_DRAW", 0x28, "wr", _ONLY_ROOT, 0),
    ("FINISH", 0x2C, "w", AUTH, 0),
    ("WAIT_VBLANK", 0x3A, "wr", 0, _NO_DISPLAY),
    ("CRTC_GET_SEQUENCE", 0x3B, "wr", 0, _NO_DISPLAY),
    ("CRTC_QUEUE_SEQUENCE", 0x3C, "wr", 0, _NO_DISPLAY),
    ("UPDATE_DRAW", 0x3F, "w", _ONLY_ROOT, 0),
    ("MODE_GETRESOURCES", 0xA0, "wr", 0, _NO_DISPLAY),
    ("MODE_GETCRTC", 0xA1, "wr", 0, _NO_DISPLAY),
    ("MODE_SETCRTC", 0xA2, "wr", MASTER, _NO_DISPLAY),
    ("MODE_CURSOR", 0xA3, "wr", MASTER, _NO_DISPLAY),
    ("MODE_GETGAMMA", 0xA4, "wr", 0, _NO_DISPLAY),
    ("MODE_SETGAMMA", 0xA5, "wr", MASTER, _NO_DISPLAY),
    ("MODE_GETENCODER", 0xA6, "wr", 0, _NO_DISPLAY),
    ("MODE_GETCONNECTOR", 0xA7, "wr", 0, _NO_DISPLAY),
    ("MODE_ATTACHMODE", 0xA8, "wr", MASTER, 0),
    ("MODE_DETACHMODE", 0xA9, "wr", MASTER, 0),
    ("MODE_GETPROPERTY", 0xAA, "wr", 0, _NO_DISPLAY),
    ("MODE_SETPROPERTY", 0xAB, "wr", MASTER, _NO_DISPLAY),
    ("MODE_GETPROPBLOB", 0xAC, "wr", 0, _NO_DISPLAY),
    ("MODE_GETFB", 0xAD, "wr", 0, _NO_DISPLAY),
    ("MODE_ADDFB", 0xAE, "wr", 0, _NO_DISPLAY),
    ("MODE_RMFB", 0xAF, "wr", 0, _NO_DISPLAY),
    ("MODE_PAGE_FLIP", 0xB0, "wr", MASTER, _NO_DISPLAY),
    ("MODE_DIRTYFB", 0xB1, "wr", MASTER, _NO_DISPLAY),
    ("MODE_CREATE_DUMB", 0xB2, "wr", 0, _NO_BUFFERS),
    ("MODE_MAP_DUMB", 0xB3, "wr", 0, _NO_BUFFERS),
    ("MODE_DESTROY_DUMB", 0xB4, "wr", 0, _NO_BUFFERS),
    ("MODE_GETPLANERESOURCES", 0xB5, "wr", 0, _NO_DISPLAY),
    ("MODE_GETPLANE", 0xB6, "wr", 0, _NO_DISPLAY),
    ("MODE_SETPLANE", 0xB7, "wr", MASTER, _NO_DISPLAY),
    ("MODE_ADDFB2", 0xB8, "wr", 0, _NO_DISPLAY),
    ("MODE_OBJ_GETPROPERTIES", 0xB9, "wr", 0, _NO_DISPLAY),
    ("MODE_OBJ_SETPROPERTY", 0xBA, "wr", MASTER, _NO_DISPLAY),
    ("MODE_CURSOR2", 0xBB, "wr", MASTER, _NO_DISPLAY),
    ("MODE_ATOMIC", 0xBC, "wr", MASTER, _NO_DISPLAY),
    ("MODE_CREATEPROPBLOB", 0xBD, "wr", 0, _NO_DISPLAY),
    ("MODE_DESTROYPROPBLOB", 0xBE, "wr", 0, _NO_DISPLAY),
    ("SYNCOBJ_CREATE", 0xBF, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_DESTROY", 0xC0, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_HANDLE_TO_FD", 0xC1, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_FD_TO_HANDLE", 0xC2, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_WAIT", 0xC3, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_RESET", 0xC4, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_SIGNAL", 0xC5, "wr", RENDER, errno.EOPNOTSUPP),
    ("MODE_CREATE_LEASE", 0xC6, "wr", MASTER, _NO_DISPLAY),
    ("MODE_LIST_LESSEES", 0xC7, "wr", MASTER, _NO_DISPLAY),
    ("MODE_GET_LEASE", 0xC8, "wr", MASTER, _NO_DISPLAY),
    ("MODE_REVOKE_LEASE", 0xC9, "wr", MASTER, _NO_DISPLAY),
    ("SYNCOBJ_TIMELINE_WAIT", 0xCA, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_QUERY", 0xCB, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_TRANSFER", 0xCC, "wr", RENDER, errno.EOPNOTSUPP),
    ("SYNCOBJ_TIMELINE_SIGNAL", 0xCD, "wr", RENDER, errno.EOPNOTSUPP),
    ("MODE_GETFB2", 0xCE, "wr", 0, _NO_DISPLAY),
    ("SYNCOBJ_EVENTFD", 0xCF, "wr", RENDER, errno.EOPNOTSUPP),
    ("MODE_CLOSEFB", 0xD0, "wr", 0, _NO_DISPLAY),
    ("GEM_CHANGE_HANDLE", 0xD2, "wr", RENDER, errno.EINVAL),
)
"""Requests of which a driver without display and sync objects knows nothing: name, number,
direction, who may make it, and the errno for those who may; with 0 it does nothing.
GEM_CHANGE_HANDLE was switched off again in Linux 7.1.
"""

REFUSED: Mapping[Ioctl, int] = {
    Ioctl(name, direction, number, Unread): code for name, number, direction, _, code in _REFUSED
}
"""These requests, and the errno for those who may make them."""

ANSWERED = (
    VERSION, GET_UNIQUE, GET_MAGIC, GET_CLIENT, GET_STATS, SET_VERSION, GEM_CLOSE, GEM_FLINK,
    GEM_OPEN, GET_CAP, AUTH_MAGIC, SET_MASTER, DROP_MASTER,
    PRIME_HANDLE_TO_FD, PRIME_FD_TO_HANDLE, SET_CLIENT_NAME,
)  # fmt: skip

_FLAGS: Mapping[int, int] = {
    VERSION.number: RENDER, GET_CAP.number: RENDER, GEM_CLOSE.number: RENDER,
    PRIME_HANDLE_TO_FD.number: RENDER, PRIME_FD_TO_HANDLE.number: RENDER,
    SET_CLIENT_NAME.number: RENDER, SET_VERSION.number: MASTER, GEM_FLINK.number: AUTH,
    GEM_OPEN.number: AUTH, AUTH_MAGIC.number: MASTER,
} | {number: who for _, number, _, who, _ in _REFUSED}  # fmt: skip

CORE = Uapi("drm", (*ANSWERED, *REFUSED))


def flags(ioctl: Ioctl) -> int:
    """Return who may make a request. Requests of drivers are open to all."""
    if 0x40 <= ioctl.number < 0xA0:
        return RENDER
    return _FLAGS.get(ioctl.number, 0)


def permits(ioctl: Ioctl, node: str) -> bool:
    """Whether a client that is not root may make a request on a node: "render" or "accel".

    Nobody can be authenticated nor be master there: that needs a primary node, /dev/dri/cardN.
    Ref: Linux, drivers/gpu/drm/drm_ioctl.c (drm_ioctl_permit)
    """
    needed = flags(ioctl)
    if needed & (ROOT | MASTER) or (needed & AUTH and node != "render"):
        return False
    return bool(needed & RENDER) or node != "render"
