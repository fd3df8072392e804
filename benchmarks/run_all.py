"""Run all benchmarks, one after the other, then print one table with all figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

import compile_time
import compression
import delegate_overhead
import estimate
import estimate_time
import host_time
import images
import latency
import load_time
import memory
import simulate
import sizes
import streams
import summary
from common import arguments

PARTS: dict[str, tuple[ModuleType, ...]] = {
    "sim:rk3588": (
        compile_time, load_time, sizes, host_time, simulate, images, memory, estimate_time, latency,
        delegate_overhead, streams,
    ),
    "sim:a311d": (
        compile_time, load_time, sizes, compression, host_time, simulate, images, memory,
        estimate_time,
    ),
    "sim:imx8mp": (compile_time, load_time, sizes, compression, host_time, estimate_time),
    "sim:s905d3": (compile_time, sizes, compression),
}  # fmt: skip
"""Device -> the benchmarks that run on it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run every benchmark with the same options, on all devices or on the one of --device."""
    given = list(sys.argv[1:] if argv is None else argv)
    options = arguments(__doc__, given)
    chosen = [options.device] if any(a.startswith("--device") for a in given) else list(PARTS)
    for device in chosen:
        for part in PARTS.get(device, PARTS["sim:a311d"]):
            part.main([*given, "--device", device])
    estimate.main(["--out", str(options.out)])
    summary.main(["--after", str(options.out)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
