"""Find etnaviv nodes on this machine, with reason and cure for each one that cannot be used."""

from __future__ import annotations

import os
import re
from pathlib import Path

from teflon.errors import TeflonError
from teflon.pipe import Node
from teflon_common.drm import DrmWinsys
from teflon_etnaviv.chips import Unusable, npu_pipe

# Ref: docs/hardware/etnaviv.md section 2.1
# Ref: Linux, Documentation/ABI (DRIVER= in a device's uevent)

DRIVER = "etnaviv"


def probe(root: str = "/") -> list[Node]:
    """Return every render node that the kernel driver etnaviv owns; never raises."""
    base = Path(root)
    try:
        names = sorted(p.name for p in (base / "dev/dri").iterdir())
    except OSError:
        return []
    nodes = [n for n in names if re.fullmatch(r"renderD\d+", n) and _owner(base, n) == DRIVER]
    return [_node(base, name) for name in nodes]


def _owner(base: Path, name: str) -> str:
    """Return the kernel driver of a render node as /sys has it, "" where it does not say."""
    try:
        text = (base / "sys/class/drm" / name / "device/uevent").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^DRIVER=(.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _node(base: Path, name: str) -> Node:
    path, shown = base / "dev/dri" / name, f"/dev/dri/{name}"
    if not os.access(path, os.R_OK | os.W_OK):
        return Node(
            shown, DRIVER, problem="may not be opened by this user",
            cure="add the user to the group `render` (sudo usermod -aG render $USER), then log in"
            " again",
        )  # fmt: skip
    try:
        winsys = DrmWinsys(str(path))
    except OSError as error:
        return Node(shown, DRIVER, problem=f"cannot be opened: {error.strerror}")
    from teflon_etnaviv.context import identities  # needed only where there is a node

    try:
        found = npu_pipe(identities(winsys))
    except (OSError, TeflonError) as error:
        return Node(shown, DRIVER, problem=f"does not answer: {error}")
    finally:
        winsys.close()
    if isinstance(found, Unusable):
        return Node(shown, DRIVER, problem=found.problem, cure=found.cure)
    return Node(shown, DRIVER, found[1].name)
