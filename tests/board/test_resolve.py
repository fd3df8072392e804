"""Where paths lead on a board, against a resolver written here that knows the whole tree."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.board.helpers import SmallBoard, compiled, needs_compiler, small_board

pytestmark = needs_compiler

LINKS = {
    "node": "/dev/dri/renderD128",
    "folder": "/dev/dri",
    "up": "..",
    "sys": "/sys/class/drm",
    "far": "folder/../../sys/class/drm/renderD128/device",
    "loop": "loop",
    "none": "/nowhere",
}
NAMES = (
    *("dev", "dri", "renderD128", "card0", "by-path", "platform-npu0-render", "null"),
    *("sys", "class", "drm", "devices", "platform", "npu0", "device", "subsystem", "uevent"),
    *("kernel", "absent", *LINKS),
)
FOLDERS = ("/dev/dri/", "/sys/class/drm/", "/sys/dev/char/226:128/", "/dev/", "/sys/", "/")
STARTS = (*FOLDERS, "", "", "@/", "@/folder/", "@/far/")


class Tree:
    """Kinds of files by their path: "dir", "file", or the target of a link."""

    def __init__(self, board: SmallBoard, links: Path) -> None:
        self.kinds: dict[str, str] = {}
        for part in ("/", "/dev", "/sys", "/dev/null", "/sys/kernel", *map(str, links.parents)):
            self.kinds[part] = "dir" if Path(part).is_dir() else "file"
        for top in ("dev", "sys"):
            for path in (board.root / top).rglob("*"):
                self._add(path, "/" + str(path.relative_to(board.root)))
        self._add(links, str(links))
        for path in links.iterdir():
            self._add(path, str(path))
        for folder in [f for f, kind in self.kinds.items() if kind == "dir" and "/sys/" in f]:
            for own in (Path(folder, name) for name in NAMES):  # the computer's own, beside ours
                if "/sys/class" not in folder and os.path.lexists(own):
                    self.kinds.setdefault(str(own), "dir" if own.is_dir() else "file")

    def _add(self, path: Path, seen: str) -> None:
        mode = path.lstat().st_mode
        link = os.readlink(path) if stat.S_ISLNK(mode) else ""
        self.kinds[seen] = link or ("dir" if stat.S_ISDIR(mode) else "file")

    def resolve(self, path: str, base: str) -> tuple[int, str]:
        """Return (errno, path) as the kernel resolves it."""
        rest = path.split("/")
        at = [] if path.startswith("/") else [name for name in base.split("/") if name]
        count = 0
        while rest:
            name = rest.pop(0)
            if self.kinds.get("/" + "/".join(at), "dir") != "dir":
                return errno.ENOTDIR, ""
            if name == "..":
                at = at[:-1]
            elif name not in ("", "."):
                kind = self.kinds.get("/" + "/".join([*at, name]))
                if kind is None:
                    return errno.ENOENT, ""
                if kind in ("dir", "file"):
                    at.append(name)
                    continue
                count += 1
                if count > 40:
                    return errno.ELOOP, ""
                rest = kind.split("/") + rest
                at = [] if kind.startswith("/") else at
        return 0, "/" + "/".join(at)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallBoard, Path, Tree]]:
    links = tmp_path_factory.mktemp("links")
    for name, target in LINKS.items():
        (links / name).symlink_to(target)
    with small_board() as board:
        yield board, links, Tree(board, links)


PATHS = st.builds(
    lambda start, names, end: start + "/".join(names) + end,
    st.sampled_from(STARTS),
    st.lists(st.sampled_from((*NAMES, "..", "..", ".", "")), min_size=1, max_size=7),
    st.sampled_from(("", "", "", "/", "/.", "/..")),
)


@settings(max_examples=8, deadline=None, phases=(Phase.generate,))
@given(st.lists(PATHS, min_size=60, max_size=60), st.sampled_from((*FOLDERS, "@")))
def test_paths_lead_where_they_lead(
    place: tuple[SmallBoard, Path, Tree], paths: list[str], base: str
) -> None:
    board, links, tree = place
    base = base.replace("@", str(links))
    _, base = tree.resolve(base, "/")
    given_paths = [path.replace("@", str(links)) for path in paths if path]
    done = subprocess.run(
        [compiled("resolve.c"), base], input="\n".join(given_paths), text=True, check=True,
        env=board.environment(), capture_output=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == len(given_paths)
    for path, line in zip(given_paths, lines, strict=True):
        code, status, same, real = line.split(" ", 3)
        if real.startswith(("/dev", "/sys")) and real not in tree.kinds:
            continue  # the computer's own
        want = tree.resolve(path, base)
        assert (int(code), real) == want, path
        assert int(status) == want[0], path
        assert same == "1", path
