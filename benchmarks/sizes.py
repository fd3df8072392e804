"""What a compiled model weighs: bytes by kind of buffer, tasks, jobs, submits. Deterministic.

python benchmarks/sizes.py [--device rk3588]
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common import Row, arguments, at_hand, compiled, description, show
from teflon.loading import load_graph
from teflon.pipe import Device

ROLES = ("weights", "biases", "regcmd", "tensor")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    rows = [_row(name, path, device) for name, path in at_hand(options.models)]
    show("Programs: bytes of buffers, work per inference", rows, options, "sizes")
    return 0


def _row(name: str, path: Path, device: Device) -> Row:
    programs = compiled(load_graph(path), device)
    sums: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for program in programs:
        sums.update(program.statistics)
        for buffer in getattr(program, "buffers", ()):  # the CPU's programs have none
            sizes[buffer.role] += buffer.size
    return {
        "model": name,
        "submits": len(programs),
        "jobs": sums["jobs"],
        "tasks": sums["tasks"],
        "command words": sums["command_words"],
        **{f"{role} B": sizes[role] for role in ROLES},
        "file B": sum(len(program.to_bytes()) for program in programs),
        "MACs": sums["macs"],
    }


if __name__ == "__main__":
    sys.exit(main())
