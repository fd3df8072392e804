"""Predict the time on the chip, like `teflon estimate`: a model of time, not a measurement.

python benchmarks/estimate_time.py [--device sim:rk3588]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from common import Row, arguments, at_hand, description, show
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.errors import TeflonError
from teflon.timing.estimate import estimate


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and print."""
    options = arguments(__doc__, argv)
    rows = [_row(name, path, options.device) for name, path in at_hand(options.models)]
    show("Predicted, milliseconds", [r for r in rows if len(r) > 1], options, "estimate")
    return 0


def _row(name: str, path: Path, spec: str) -> Row:
    artefact = compile_graph(read_graph(path), description(spec), NONE)
    try:
        return {"model": name, "predicted ms": estimate(artefact).total_ms}
    except TeflonError as error:
        print(f"{name}: {error}")
        return {"model": name}


if __name__ == "__main__":
    sys.exit(main())
