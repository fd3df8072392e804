"""Compare the content of a wheel with the names of the committed files, which stdin has."""

from __future__ import annotations

import re
import sys
import zipfile

SHIPPED = re.compile(r"^(?!.*/native/)(?:drivers/[^/]+/(?=teflon_))?(teflon(?:_\w+)?/.*)$")
"""Matches a committed file that belongs into the wheel. The group is its name in the wheel."""

BUILT = re.compile(r"\.so$|\.pyd$|\.dist-info/")


def main() -> int:
    """Print the files that are missing or not committed; return 0 if there are none."""
    committed = {m[1] for line in sys.stdin if (m := SHIPPED.match(line.strip()))}
    names = zipfile.ZipFile(sys.argv[1]).namelist()
    packed = {n for n in names if not n.endswith("/") and not BUILT.search(n)}
    missing, extra = sorted(committed - packed), sorted(packed - committed)
    for name in missing:
        sys.stderr.write(f"{sys.argv[1]}: {name} is committed, must be in the wheel\n")
    for name in extra:
        sys.stderr.write(f"{sys.argv[1]}: {name} is in the wheel, must be committed\n")
    return 1 if missing or extra else 0


if __name__ == "__main__":
    sys.exit(main())
