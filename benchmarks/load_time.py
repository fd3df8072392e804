"""Measure `teflon.load`: without the cache, from the compile cache, from a compiled file.

    python benchmarks/load_time.py [--device sim:rk3588] [--runs 5]

The model file is in the memory of the system already. `upload` is the part that creates the
device's buffers and fills them; the other three columns contain it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import teflon
from common import Row, arguments, at_hand, best_ms, description, show
from teflon.compile.artefact import Artefact
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.compile.teflon_file import pack
from teflon.devices import open_device


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    rows = [
        _row(name, path, options.device, options.runs) for name, path in at_hand(options.models)
    ]
    show("Load, milliseconds (best of the runs)", rows, options, "load_time")
    return 0


def _row(name: str, path: Path, spec: str, runs: int) -> Row:
    artefact = compile_graph(read_graph(path), description(spec), NONE)
    data = pack(artefact)
    with tempfile.TemporaryDirectory(prefix="teflon-") as folder:
        file = Path(folder) / "m.teflon"
        file.write_bytes(data)
        _load(path, spec, folder)
        return {
            "model": name,
            "cold": best_ms(lambda: _load(path, spec, "off"), runs)[0],
            "warm": best_ms(lambda: _load(path, spec, folder), runs)[0],
            "compiled": best_ms(lambda: _load(file, spec, "off"), runs)[0],
            "upload": best_ms(lambda: _upload(artefact, spec), runs)[0],
            "file B": path.stat().st_size,
            "compiled B": len(data),
        }


def _load(path: Path, spec: str, cache: str) -> None:
    teflon.load(path, spec, cache=cache).close()


def _upload(artefact: Artefact, spec: str) -> None:
    _, context = open_device(spec)
    assert context is not None  # a device that runs was asked for
    with context:
        for _, program in artefact.on_device():
            context.load(program)


if __name__ == "__main__":
    sys.exit(main())
