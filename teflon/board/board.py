"""A virtual board: its folder, its nodes, and the environment of programs that see them.

with Board("rk3588,a311d") as board:
    subprocess.run(["vulkaninfo"], env=os.environ | board.environment())
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from teflon.board import control, spec, sysfs
from teflon.board.faults import Faults
from teflon.board.server import Keep, Server
from teflon.errors import OptionError

VARIABLE = "TEFLON_BOARD"
"""Names the folder of a board to the shim."""
LIBRARY, SOURCE = "libteflon-board.so", "board/shim.c"
_PREFIX = "teflon-board-"
_PARTS = ("dev", "sys", "proc", "files", control.NAME)
"""What a board makes in its folder."""


class Board:
    """Nodes that are served from this process, until `close`."""

    def __init__(
        self,
        chips: str,
        folder: str | os.PathLike[str] | None = None,
        *,
        options: Mapping[str, str] | None = None,
        faults: Iterable[str] = (),
        real_time: bool = False,
        keep: Keep | None = None,
        log: bool = False,
    ) -> None:
        """Serve a board's nodes below a folder, by default a temporary one.

        chips: see `spec.nodes`. faults: rules, see `faults`. real_time: jobs take at least their
        modelled time. keep: gets the recording of each open file that is closed. log: show each
        request on stderr. Raises OptionError, DriverUnavailable.
        """
        nodes = spec.nodes(chips, options)
        for served in nodes:
            served.node.kernel.real_time = real_time
        self.server = Server(nodes, Faults(faults), keep=keep, log=log)
        self._temporary = folder is None
        self.root = self._folder(folder)
        try:
            sysfs.write(self.root, nodes)
            self.server.start(self.root)
            control.start(self.server, self.root)
        except OSError as error:
            self.close()
            raise OptionError(f"{self.root}: cannot serve a board, {error.strerror}") from error

    @staticmethod
    def _folder(folder: str | os.PathLike[str] | None) -> Path:
        if folder is None:
            place = Path(tempfile.gettempdir()).absolute()
            sweep(place)
            root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            root.chmod(0o755)  # as real nodes, these are for programs of other users too
            return root
        root = Path(folder).absolute()
        try:
            root.mkdir(exist_ok=True)
            if is_served(root):
                raise OptionError(f"{root}: another board is served there, must be another folder")
            strange = sorted(p.name for p in root.iterdir() if p.name not in _PARTS)
            if strange:
                raise OptionError(f"{root}: has {strange[0]}, must be an empty folder or a new one")
            _remove_parts(root)
        except OSError as error:
            raise OptionError(f"{root}: cannot be used, {error.strerror}") from error
        return root

    def environment(self) -> dict[str, str]:
        """Return the variables with which a program sees the nodes. Raises OptionError."""
        before = os.environ.get("LD_PRELOAD", "")
        own = str(library())
        return {"LD_PRELOAD": f"{before}:{own}" if before else own, VARIABLE: str(self.root)}

    def close(self) -> None:
        """Remove what the board made; programs that still run get ENODEV."""
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)
        else:
            _remove_parts(self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _remove_parts(root: Path) -> None:
    for name in _PARTS:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def is_served(root: Path) -> bool:
    """Whether a process serves a board in a folder."""
    try:
        control.Control(root).close()
    except OSError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove the folders of this user's boards whose process was killed."""
    for root in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if root.stat().st_uid == os.getuid() and not is_served(root):
                shutil.rmtree(root, ignore_errors=True)


def allow_many_buffers() -> None:
    """Raise this process's limit of open files: each buffer of a program is one."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))


def library() -> Path:
    """Return the path of the shim, which is preloaded. Raises OptionError if it was not built."""
    found = Path(str(importlib.resources.files("teflon") / LIBRARY))
    if not found.is_file():
        if not sys.platform.startswith("linux"):
            raise OptionError(f"teflon board: this is {sys.platform}, must be Linux")
        raise OptionError(f"{found}: is not there, must be built (install teflon-npu)")
    return found


def source() -> Path:
    """Return the path of the shim's C file."""
    return Path(str(importlib.resources.files("teflon") / SOURCE))
