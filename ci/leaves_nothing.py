"""Run a command; fail if it leaves files in the checkout that git does not ignore.

    python ci/leaves_nothing.py COMMAND [ARGUMENT ...]

Files that exist before the command do not count. Outside a git checkout the command only runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SHOWN = 10


def untracked(folder: Path) -> set[str]:
    """Return the files that git neither tracks nor ignores; an empty set outside a checkout."""
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {name.decode(errors="replace") for name in done.stdout.split(b"\0") if name}


def main(command: Sequence[str], folder: Path | None = None) -> int:
    """Run the command; return its exit code, or 1 if it succeeds and leaves files."""
    place = folder or Path.cwd()
    before = untracked(place)
    code = subprocess.run(command, cwd=place, check=False).returncode
    left = sorted(untracked(place) - before)
    if left:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        sys.stderr.write(
            f"{place}: {Path(command[0]).name} left {', '.join(left[:SHOWN])}{more},"
            " must leave nothing that git does not ignore\n"
        )
    return code or bool(left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
