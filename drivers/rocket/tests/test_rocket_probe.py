"""Probing, on machines that are folders."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from teflon.pipe import Node
from teflon_rocket.probe import may_open, probe


def put(path: Path, *strings: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(text.encode() + b"\0" for text in strings))


def accel(root: Path, number: int, device: str, driver: str = "") -> Path:
    """Make /dev/accel/accelN of a device in /sys."""
    node = root / f"dev/accel/accel{number}"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    target = root / f"sys/devices/platform/{device}"
    target.mkdir(parents=True, exist_ok=True)
    (target / "uevent").write_text(f"DRIVER={driver}\n" if driver else "MODALIAS=x\n")
    link = root / f"sys/class/accel/accel{number}/device"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(target, link.parent))
    return node


def cores(root: Path, status: str, compatible: str = "rockchip,rk3588-rknn-core") -> None:
    """Make the three cores of the device tree."""
    tree = root / "sys/firmware/devicetree/base"
    for address in ("fdab0000", "fdac0000", "fdad0000"):
        put(tree / f"npu@{address}/compatible", compatible)
        put(tree / f"npu@{address}/status", status)
    put(tree / "compatible", "radxa,rock-5b", "rockchip,rk3588")


def test_a_board(tmp_path: Path) -> None:
    accel(tmp_path, 0, "rknn")
    cores(tmp_path, "okay")
    assert probe(str(tmp_path)) == [Node("/dev/accel/accel0", "rocket", "rk3588")]


def test_the_chip_is_that_of_the_bound_cores(tmp_path: Path) -> None:
    accel(tmp_path, 0, "rknn.0.auto")
    core = tmp_path / "sys/bus/platform/drivers/rocket/fdab0000.npu"
    put(core / "of_node/compatible", "rockchip,rk3588-rknn-core")
    assert probe(str(tmp_path))[0].chip == "rk3588"


def test_no_permission(tmp_path: Path) -> None:
    accel(tmp_path, 0, "rknn")
    cores(tmp_path, "okay")
    (node,) = probe(str(tmp_path), access=lambda path: False)
    assert node.problem == "may not be opened by this user"
    assert node.cure.startswith("add the user to the group of /dev/accel/accel0")
    assert 'SUBSYSTEM=="accel"' in node.cure
    assert not node.usable


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_permissions_of_the_node_count(tmp_path: Path) -> None:
    node = accel(tmp_path, 0, "rknn")
    node.chmod(0)
    assert probe(str(tmp_path))[0].problem == "may not be opened by this user"


def test_may_open(tmp_path: Path) -> None:
    (tmp_path / "node").touch()
    assert may_open(str(tmp_path / "node"))
    assert not may_open(str(tmp_path / "none"))


def test_other_kinds_of_node_in_order(tmp_path: Path) -> None:
    accel(tmp_path, 10, "rknn")
    accel(tmp_path, 2, "0000:00:0b.0", "intel_vpu")
    (tmp_path / "dev/accel/something").touch()
    first, second = probe(str(tmp_path))
    assert (first.path, first.problem) == (
        "/dev/accel/accel2", "is driven by intel_vpu, must be driven by rocket",
    )  # fmt: skip
    assert (second.path, second.usable) == ("/dev/accel/accel10", True)


def test_a_node_that_sys_does_not_know_is_asked(tmp_path: Path) -> None:
    node = tmp_path / "dev/accel/accel0"
    node.parent.mkdir(parents=True)
    node.touch()
    (found,) = probe(str(tmp_path))
    assert found.problem == (
        "is driven by nothing that answers (Inappropriate ioctl for device), "
        "must be driven by rocket"
    )


def test_disabled_in_the_device_tree(tmp_path: Path) -> None:
    cores(tmp_path, "disabled")
    (node,) = probe(str(tmp_path))
    assert node.path == "/sys/firmware/devicetree/base/npu@fdab0000"
    assert node.problem == "status is 'disabled' in the device tree, must be 'okay'"
    assert "overlay" in node.cure


def test_module_not_loaded(tmp_path: Path) -> None:
    cores(tmp_path, "okay")
    put(tmp_path / "proc/sys/kernel/osrelease")
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.12.1\n")
    (node,) = probe(str(tmp_path))
    assert node.problem == "the kernel driver rocket is not loaded (this kernel is 6.12.1)"
    assert node.cure == (
        "sudo modprobe rocket; it needs Linux 6.18 or newer with CONFIG_DRM_ACCEL_ROCKET"
    )
    (tmp_path / "sys/module/rocket").mkdir(parents=True)
    (node,) = probe(str(tmp_path))
    assert node.problem.startswith("the kernel module rocket is loaded but made no node")


def test_the_vendors_kernel(tmp_path: Path) -> None:
    cores(tmp_path, "okay", "rockchip,rk3588-rknpu")
    (node,) = probe(str(tmp_path))
    assert node.problem.endswith("for the vendor's kernel (rockchip,rk3588-rknpu)")


def test_nothing(tmp_path: Path) -> None:
    assert probe(str(tmp_path)) == []
    assert probe(str(tmp_path / "missing")) == []


def test_another_npu_does_not_hide_ours(tmp_path: Path) -> None:
    accel(tmp_path, 0, "0000:00:0b.0", "intel_vpu")
    cores(tmp_path, "disabled")
    assert [node.chip for node in probe(str(tmp_path))] == ["", "rk3588"]


def test_it_is_fast(tmp_path: Path) -> None:
    accel(tmp_path, 0, "rknn")
    cores(tmp_path, "okay")
    for number in range(300):
        put(tmp_path / f"sys/firmware/devicetree/base/node@{number}/compatible", "x")

    def timed() -> float:
        before = time.perf_counter()
        probe(str(tmp_path))
        return time.perf_counter() - before

    assert min(timed() for _ in range(20)) < 0.02
