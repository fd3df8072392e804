"""What `teflon board` is told: chips, and nodes of other drivers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count

from teflon import plugins
from teflon.board.other import OtherKernel
from teflon.board.server import ServedNode
from teflon.devices import check_options
from teflon.errors import OptionError, did_you_mean
from teflon.pipe import Driver, VirtualNode

OTHER = "other"
FIRST = {"accel": 0, "render": 128}
FOLDERS = {"accel": "/dev/accel/accel", "render": "/dev/dri/renderD"}
_NODE = re.compile(r"(?:/dev/accel/)?(accel)(\d+)|(?:/dev/dri/)?(renderD)(\d+)")
_FORM = "must be CHIP, DRIVER:CHIP or other:NAME, each perhaps with @NODE"


def nodes(spec: str, options: Mapping[str, str] | None = None) -> list[ServedNode]:
    """Return the nodes of a board. Raises OptionError, DriverUnavailable.

    spec: CHIP, DRIVER:CHIP or other:NAME (a node of another kernel driver, which only answers
    VERSION), separated by commas; each may have @NODE, such as rk3588@accel1.
    """
    made = [_node(word.strip(), options) for word in spec.split(",")]
    wanted = [path for _, path in made if path]
    if twice := [path for path in wanted if wanted.count(path) > 1]:
        raise OptionError(f"board {spec!r}: has {twice[0]} twice, must have each node once")
    taken = set(wanted)
    found = []
    for node, path in made:
        path = path or _free(node.kind, taken)
        taken.add(path)
        found.append(ServedNode(path, node))
    return found


def _free(kind: str, taken: set[str]) -> str:
    return next(path for n in count(FIRST[kind]) if (path := f"{FOLDERS[kind]}{n}") not in taken)


def _node(word: str, options: Mapping[str, str] | None) -> tuple[VirtualNode, str]:
    chip, at, place = word.partition("@")
    found = _NODE.fullmatch(place)
    if not chip or (at and not found):
        raise OptionError(f"board {word!r}: {_FORM} (accelN or renderDN)")
    kind = "" if not found else "accel" if found[1] else "render"
    number = "" if not found else found[2] or found[4]
    node = _made(chip, kind, options)
    if kind and node.kind != kind:
        raise OptionError(f"board {word!r}: {chip} is a node {FOLDERS[node.kind]}N, not {place}")
    return node, f"{FOLDERS[kind]}{int(number)}" if kind else ""


def _made(word: str, kind: str, options: Mapping[str, str] | None) -> VirtualNode:
    name, colon, chip = word.rpartition(":")
    if name == OTHER:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", chip):
            raise OptionError(f"board {word!r}: the name of a kernel driver has letters and digits")
        return VirtualNode(kind or "render", OtherKernel(chip), chip, chip)
    drivers = plugins.discover().drivers
    if colon:
        if name not in drivers:
            raise OptionError(f"board {word!r}: there is no driver {name!r}"
                              f"{did_you_mean(name, drivers)}")  # fmt: skip
        return _of_driver(drivers[name], chip, options)
    owner = next((driver for driver in drivers.values() if chip in driver.chips), None)
    if owner is None:
        known = sorted({c for driver in drivers.values() for c in driver.chips})
        raise OptionError(
            f"board {word!r}: no driver has this chip{did_you_mean(chip, known)}; {_FORM}"
        )
    return _of_driver(owner, chip, options)


def _of_driver(driver: Driver, chip: str, options: Mapping[str, str] | None) -> VirtualNode:
    node = driver.virtual_node(chip, check_options(driver, options or {}))
    paths = (node.device, *node.files)
    if any(p.startswith("/") or ".." in p.split("/") or not p for p in paths):
        raise OptionError(f"driver {driver.name}: its virtual node has a path outside of the board")
    return node


def summary(nodes: Sequence[ServedNode]) -> str:
    """Return the nodes as text, with the kernel drivers behind them."""
    return ", ".join(f"{served.path} ({served.node.kernel.name})" for served in nodes)
