"""All benchmarks, one after the other: tables on stdout, JSON in out/bench."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import compile_time
import delegate_overhead
import host_time
import simulate
import sizes


def main(argv: Sequence[str] | None = None) -> int:
    """Run every benchmark with the same options."""
    for part in (compile_time, sizes, host_time, simulate, delegate_overhead):
        part.main(argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
