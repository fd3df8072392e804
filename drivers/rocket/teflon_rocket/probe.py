"""Find rocket nodes on this machine; for those that cannot be used, the reason and the cure.

A node belongs to a facade device `rknn` that no driver is bound to; its cores are platform devices
of the driver `rocket`. So the facade's name in /sys says which driver a node has. Where there is no
such name, the node is opened and asked for its version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from teflon.pipe import Node
from teflon_common.drm import DrmWinsys, version
from teflon_rocket.chips import CHIPS, CORES

# Ref: Linux, drivers/accel/rocket/rocket_drv.c (facade, driver name), Kconfig
# Ref: docs/hardware/rocket.md §2.1

DRIVER = "rocket"
FACADE = "rknn"
VENDOR = "rockchip,rk3588-rknpu"
KERNEL = "Linux 6.18 or newer with CONFIG_DRM_ACCEL_ROCKET"

Access = Callable[[str], bool]


def may_open(path: str) -> bool:
    """Whether this process may open a node for reading and writing."""
    return os.access(path, os.R_OK | os.W_OK)


def probe(root: str = "/", access: Access = may_open) -> list[Node]:
    """Return all accel nodes, then device tree nodes of NPUs that have none; never raises."""
    base = Path(root)
    chip = _chip(base)
    nodes = [_accel(base, path, chip, access) for path in _accel_paths(base)]
    if any(not node.problem or node.chip for node in nodes):
        return nodes
    return nodes + _device_tree(base)


def device_tree(chip: str) -> dict[str, bytes]:
    """Return the files of a device tree with the chip's cores, by path, for virtual boards."""
    base = "sys/firmware/devicetree/base"
    cores = {
        f"{base}/npu@{address:x}/{name}": text
        for address in CORES[: CHIPS[chip].cores]
        for name, text in (
            ("compatible", f"{CHIPS[chip].compatible}\0".encode()),
            ("status", b"okay\0"),
        )
    }
    return {f"{base}/compatible": f"rockchip,{chip}\0".encode(), **cores}


def _accel_paths(base: Path) -> list[Path]:
    found = [p for p in _listed(base / "dev/accel") if re.fullmatch(r"accel\d+", p.name)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def _accel(base: Path, path: Path, chip: str, access: Access) -> Node:
    shown = "/" + str(path.relative_to(base))
    device = base / "sys/class/accel" / path.name / "device"
    owner = _owner(device)
    if owner not in ("", DRIVER):
        return Node(shown, DRIVER, problem=f"is driven by {owner}, must be driven by {DRIVER}",
                    cure="this node belongs to another kind of device")  # fmt: skip
    if not access(str(path)):
        return Node(
            shown, DRIVER, chip or "rk3588", problem="may not be opened by this user",
            cure=f"add the user to the group of {shown} (mostly `render`: sudo usermod -aG render "
            '$USER, then log in again), or a udev rule: SUBSYSTEM=="accel", GROUP="render", '
            'MODE="0660"',
        )  # fmt: skip
    if owner == "" and (asked := _asked(path)) != DRIVER:
        return Node(shown, DRIVER, problem=f"is driven by {asked}, must be driven by {DRIVER}",
                    cure="this node belongs to another kind of device")  # fmt: skip
    return Node(shown, DRIVER, chip or "rk3588")


def _owner(device: Path) -> str:
    """Return the kernel driver of a node by its name in /sys, "" where there is none."""
    try:
        target = device.resolve(strict=True)
    except OSError:
        return ""
    if re.fullmatch(rf"{FACADE}(\.\w+)*", target.name):
        return DRIVER
    driver = re.search(r"^DRIVER=(.+)$", _text(target / "uevent"), re.MULTILINE)
    return driver[1] if driver else ""


def _asked(path: Path) -> str:
    try:
        winsys = DrmWinsys(str(path))
    except OSError as error:
        return f"nothing that answers ({error.strerror})"
    try:
        return version(winsys).name or "a nameless driver"
    except OSError as error:
        return f"nothing that answers ({error.strerror})"
    finally:
        winsys.close()


def _device_tree(base: Path) -> list[Node]:
    """Return one node for the NPU of the device tree when no accel node belongs to it."""
    tree = base / "sys/firmware/devicetree/base"
    cores = [p for p in _listed(tree) if p.name.startswith("npu@")]
    known = {chip.compatible: chip.name for chip in CHIPS.values()}
    ours = [(p, known[c]) for p in cores for c in _strings(p / "compatible") if c in known]
    if not ours:
        return [_vendor(base, p) for p in cores if VENDOR in _strings(p / "compatible")][:1]
    for path, chip in ours:
        if _strings(path / "status") in ([], ["okay"], ["ok"]):
            return [_no_module(base, path, chip)]
    path, chip = ours[0]
    return [
        Node(
            _shown(base, path), DRIVER, chip,
            problem=f"status is {_strings(path / 'status')[0]!r} in the device tree, "
            "must be 'okay'",
            cure="enable the NPU cores and their IOMMUs with a device tree overlay of the board "
            "(rknn_core_0..2, rknn_mmu_0..2)",
        )
    ]  # fmt: skip


def _no_module(base: Path, path: Path, chip: str) -> Node:
    loaded = (base / "sys/module/rocket").is_dir()
    release = _text(base / "proc/sys/kernel/osrelease").strip() or "unknown"
    if loaded:
        return Node(
            _shown(base, path), DRIVER, chip,
            problem="the kernel module rocket is loaded but made no node in /dev/accel",
            cure="look for rocket and iommu in the kernel log (dmesg); power domain, IOMMU and "
            "regulators of the cores must be enabled in the device tree",
        )  # fmt: skip
    return Node(
        _shown(base, path), DRIVER, chip,
        problem=f"the kernel driver rocket is not loaded (this kernel is {release})",
        cure=f"sudo modprobe rocket; it needs {KERNEL}",
    )  # fmt: skip


def _vendor(base: Path, path: Path) -> Node:
    return Node(
        _shown(base, path), DRIVER, "rk3588",
        problem=f"the device tree describes the NPU for the vendor's kernel ({VENDOR})",
        cure=f"boot a mainline kernel and its device tree: {KERNEL}",
    )  # fmt: skip


def _chip(base: Path) -> str:
    """Return the chip of the bound cores, else the one of the whole board; "" for unknown."""
    compatibles = [
        name
        for core in _listed(base / "sys/bus/platform/drivers/rocket")
        for name in _strings(core / "of_node/compatible")
    ]
    for chip in CHIPS.values():
        if chip.compatible in compatibles:
            return chip.name
    board = _strings(base / "sys/firmware/devicetree/base/compatible")
    chips = [n for n in CHIPS for c in board if re.fullmatch(rf"rockchip,{n}s?", c)]
    return chips[0] if chips else ""


def _shown(base: Path, path: Path) -> str:
    return "/" + str(path.relative_to(base))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _strings(path: Path) -> list[str]:
    return [text for text in _text(path).split("\0") if text]
