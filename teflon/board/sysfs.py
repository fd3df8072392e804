"""What /sys says of a board's nodes, as files and links below the board's folder.

It is what libdrm (drmGetDevices2), Mesa's loader and the probes of our own drivers read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from teflon.board.server import ServedNode

# Ref: Linux, include/drm/drm_accel.h (ACCEL_MAJOR), Documentation/admin-guide/devices.txt (226)
# Ref: Linux, drivers/gpu/drm/drm_sysfs.c, drivers/base/core.c (links and uevent)
# Ref: libdrm, xf86drm.c (what drmGetDevices2 reads)

# Ref: systemd, rules.d/60-drm.rules (the links in /dev/dri/by-path)

MAJORS = {"accel": 261, "drm": 226}
CLASSES = {"accel": "accel", "render": "drm"}


def write(root: Path, nodes: Sequence[ServedNode]) -> None:
    """Write the files and links of all nodes. Raises OSError."""
    taken: set[str] = set()
    for folder in ("dev/accel", "dev/dri", "sys/class/accel", "sys/class/drm", "sys/firmware",
                   "sys/bus/platform/devices"):  # fmt: skip
        (root / folder).mkdir(parents=True, exist_ok=True)
    for served in nodes:
        for path, data in served.node.files.items():
            _file(root / path, data)
        device, count = served.node.device, 0
        while device in taken:
            count += 1
            device = f"{served.node.device}.{count}"
        taken.add(device)
        _node(root, served, device)
    tree = root / "proc/device-tree"
    if (root / "sys/firmware/devicetree/base").is_dir() and not tree.is_symlink():
        _link(tree, root / "sys/firmware/devicetree/base")


def _node(root: Path, served: ServedNode, device: str) -> None:
    """Write a node's platform device, and the node's places in it, in its class and in /dev."""
    group, driver = CLASSES[served.node.kind], served.node.driver
    owner = root / "sys/devices/platform" / device
    lines = [f"DRIVER={driver}"] if driver else []
    _file(owner / "uevent", "".join(f"{w}\n" for w in [*lines, f"MODALIAS=platform:{device}"]))
    _link(owner / "subsystem", root / "sys/bus/platform")
    _link(root / "sys/bus/platform/devices" / device, owner)
    if driver:
        bound = root / "sys/bus/platform/drivers" / driver
        bound.mkdir(parents=True, exist_ok=True)
        _link(owner / "driver", bound)
        _link(bound / device, owner)
    for path in served.paths:
        _minor(root, owner, group, path)


def _minor(root: Path, owner: Path, group: str, path: str) -> None:
    name = Path(path).name
    place, number = owner / group / name, re.sub(r"[^0-9]", "", name)
    about = {"MAJOR": MAJORS[group], "MINOR": number, "DEVNAME": path.removeprefix("/dev/"),
             "DEVTYPE": f"{group}_minor"}  # fmt: skip
    _file(place / "uevent", "".join(f"{key}={value}\n" for key, value in about.items()))
    _file(place / "dev", f"{MAJORS[group]}:{number}\n")
    _link(place / "device", owner)
    _link(place / "subsystem", root / "sys/class" / group)
    _link(root / "sys/class" / group / name, place)
    _link(root / "sys/dev/char" / f"{MAJORS[group]}:{number}", place)
    if group == "drm":
        kind = "render" if name.startswith("render") else "card"
        by_path = root / "dev/dri/by-path" / f"platform-{owner.name}-{kind}"
        by_path.parent.mkdir(exist_ok=True)
        by_path.symlink_to(f"../{name}")


def _file(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))
