"""How programs find the nodes of a board: libdrm, and libudev without its daemon."""

from __future__ import annotations

import ctypes.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.board.helpers import HERE, needs_compiler, teflon_board

pytestmark = needs_compiler


def asked(chips: str, client: str, *words: str) -> Any:
    """Run a client on a board, and return what it printed."""
    done = teflon_board(chips, [sys.executable, "-P", HERE / client, *words])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def needs_library(name: str) -> pytest.MarkDecorator:
    found = ctypes.util.find_library(name)
    return pytest.mark.skipif(not found, reason=f"lib{name} is not installed")


@needs_library("drm")
def test_libdrm() -> None:
    render, primary = ("/dev/dri/renderD129", "/dev/dri/card1")
    said = asked("a311d,imx8mp,other:msm", "drm_client.py", render, primary)
    assert [(d["bus"], d["name"], d["compatible"]) for d in said["devices"]] == [
        (2, "etnaviv", "etnaviv"), (2, "etnaviv.1", "etnaviv.1"), (2, "msm", "msm")
    ]  # fmt: skip
    assert said["devices"][1]["nodes"] == {"0": primary, "2": render}
    both = {"version": "etnaviv", "render": render, "primary": primary, "device": 0}
    assert said["nodes"][render] == both | {"type": 2, "name": "", "name2": render}
    assert said["nodes"][primary] == both | {"type": 0, "name": primary, "name2": primary}


@needs_library("drm")
def test_libdrm_and_an_accelerator() -> None:
    """libdrm lists no /dev/accel; the version is asked of the node."""
    said = asked("rk3588", "drm_client.py", "/dev/accel/accel0")
    assert said["devices"] == []
    assert said["nodes"]["/dev/accel/accel0"]["version"] == "rocket"


@needs_library("udev")
@pytest.mark.parametrize(
    ("chip", "subsystem", "nodes"),
    [
        ("rk3588", "accel", {"rknn/accel/accel0": "/dev/accel/accel0"}),
        ("a311d", "drm", {"etnaviv/drm/card0": "/dev/dri/card0",
                          "etnaviv/drm/renderD128": "/dev/dri/renderD128"}),
    ],
)  # fmt: skip
def test_libudev(chip: str, subsystem: str, nodes: dict[str, str]) -> None:
    said = asked(chip, "udev_client.py", subsystem)
    assert said == {f"/sys/devices/platform/{path}": node for path, node in nodes.items()}


def test_what_a_shell_sees(tmp_path: Path) -> None:
    """Programs that no C test calls like: ls, find, stat, readlink, cd and cat."""
    script = """
set -e
ls -l /dev/dri/ | awk 'NR > 1 { print $1, $5 $6, $NF }'
find /dev/dri /sys/class/drm -name 'render*'
stat -c '%F %t:%T' /dev/dri/renderD128
readlink -f /sys/class/drm/renderD128/device/driver
cd /sys/class/drm/renderD128/device && pwd -P && cat drm/renderD128/dev
cd /dev/dri && test -c renderD128 && test -c ../dri/card0 && test -r ../null
exec 3<>renderD128 && readlink /proc/self/fd/3
for node in /dev/dri/r*; do echo "$node"; done
ln -s /dev/dri "$1/link" && cd "$1" && ls link && cat </dev/null && test -c link/card0
"""
    said = teflon_board("a311d", ["sh", "-c", script, "sh", tmp_path])
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert lines[:3] == [
        "drwxr-xr-x 4096" + lines[0][15:], "crw-rw---- 226,0 card0", "crw-rw-rw- 226,128 renderD128"
    ]  # fmt: skip
    assert lines[3:] == [
        "/dev/dri/renderD128", "/sys/class/drm/renderD128", "character special file e2:80",
        "/sys/bus/platform/drivers/etnaviv", "/sys/devices/platform/etnaviv", "226:128",
        "/dev/dri/renderD128", "/dev/dri/renderD128", "by-path", "card0", "renderD128",
    ]  # fmt: skip
