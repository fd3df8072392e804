"""Compare a wheel's content with the committed files: names on stdin, one a line."""

from __future__ import annotations

import re
import sys
import zipfile

SHIPPED = re.compile(r"^(?!.*/native/)(?:drivers/[^/]+/(?=teflon_))?(teflon(?:_\w+)?/.*)$")
"""A committed file that belongs into the wheel; the group is its name there."""

BUILT = re.compile(r"\.so$|\.pyd$|\.dist-info/")


def main() -> int:
    """Print what is missing or too much; 0 when nothing is."""
    committed = {m[1] for line in sys.stdin if (m := SHIPPED.match(line.strip()))}
    names = zipfile.ZipFile(sys.argv[1]).namelist()
    packed = {n for n in names if not n.endswith("/") and not BUILT.search(n)}
    missing, extra = sorted(committed - packed), sorted(packed - committed)
    for name in missing:
        sys.stderr.write(f"{sys.argv[1]}: {name} is missing, it is committed\n")
    for name in extra:
        sys.stderr.write(f"{sys.argv[1]}: {name} is packed, it is not committed\n")
    return 1 if missing or extra else 0


if __name__ == "__main__":
    sys.exit(main())
