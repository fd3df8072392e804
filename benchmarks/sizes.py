"""Count the bytes, tasks, jobs and submits of a compiled model. The same on every machine.

    python benchmarks/sizes.py [--device rk3588]

Mesa's figures are those of strategy `mesa`, which makes and submits the same bytes as Mesa.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common import Row, arguments, at_hand, compiled, description, show
from teflon.compile.source import read_graph
from teflon.pipe import Device, Program

KINDS = {
    "weights": "constants", "biases": "constants", "coefficients": "constants", "lut": "constants",
    "regcmd": "commands", "nn_config": "commands", "tp_config": "commands",
    "tensor": "tensors",
}  # fmt: skip
"""The role of a buffer -> the column in which its bytes count."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    ours, mesa = description(options.device), description(options.device, strategy="mesa")
    rows = [_row(name, path, ours, mesa) for name, path in at_hand(options.models)]
    show("Programs: bytes of buffers, work per inference", rows, options, "sizes")
    return 0


def _row(name: str, path: Path, ours: Device, mesa: Device) -> Row:
    graph = read_graph(path)
    programs, theirs = compiled(graph, ours), compiled(graph, mesa)
    sums, sizes = _sums(programs), _sizes(programs)
    their_sums, their_sizes = _sums(theirs), _sizes(theirs)
    whole, their_whole = sizes.total(), their_sizes.total()
    return {
        "model": name,
        "submits": len(programs),
        "jobs": sums["jobs"],
        "Mesa jobs": their_sums["jobs"],
        "tasks": sums["tasks"],
        "words": sums["command_words"],
        "constants B": sizes["constants"],
        "commands B": sizes["commands"],
        "tensors B": sizes["tensors"],
        "Mesa tensors B": their_sizes["tensors"],
        "buffers B": whole,
        "Mesa buffers B": their_whole,
        "ours / Mesa": whole / their_whole if their_whole else float("nan"),
        "file B": sum(len(program.to_bytes()) for program in programs),
        "MACs": sums["macs"],
    }


def _sums(programs: Sequence[Program]) -> Counter[str]:
    found: Counter[str] = Counter()
    for program in programs:
        found.update(program.statistics)
    return found


def _sizes(programs: Sequence[Program]) -> Counter[str]:
    found: Counter[str] = Counter()
    for program in programs:
        for buffer in getattr(program, "buffers", ()):  # a stranger's program may have none
            found[KINDS.get(buffer.role, buffer.role)] += buffer.size
    return found


if __name__ == "__main__":
    sys.exit(main())
