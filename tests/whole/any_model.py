"""What becomes of each public model on each device: `python -m tests.whole.any_model` is a table.

A model runs and is right, or it is refused with a reason. Right means: on the CPU the numbers of
TFLite's reference kernels; on an NPU each layer is that near to them on equal input, so that the
figures do not depend on how many layers a model has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teflon.cli.common import table
from teflon.cli.run import input_types, random_inputs
from teflon.compile.source import read_graph
from teflon.compile.teflon_file import pack
from teflon.errors import TeflonError
from teflon.inspect.compare import compare
from teflon.ir import DType, Graph
from teflon.ir.types import Array
from teflon.run.load import load
from tests.oracle import Oracle
from tests.paths import MODELS

DEVICES = ("cpu", "sim:rk3588", "sim:a311d", "sim:s905d3", "sim:imx8mp")


DANGEROUS = {"keyword_scrambled_8bit": "TFLite writes past the end of its int8 states"}
"""Models that TFLite must not run in this process."""


@dataclass(frozen=True)
class Outcome:
    """`refusal` is the sentence, or empty; `apart` counts steps of integers, `ratio` is the largest
    difference of floats as a part of the largest value. `oracle`: why there is nothing to compare
    with, or empty.
    """

    refusal: str = ""
    apart: int = 0
    ratio: float = 0.0
    oracle: str = ""
    where: str = ""  # devices that ran something

    def __str__(self) -> str:
        if self.refusal:
            return "refused"
        far = f"{self.ratio:.0e}" if self.ratio else str(self.apart)
        return f"{far} ({self.where})" + (" no oracle" if self.oracle else "")


def public() -> list[Path]:
    """Return the public models, none where there are none."""
    return sorted((MODELS / "public").glob("*.tflite")) if MODELS else []


def given(graph: Graph) -> list[Array]:
    """Return random inputs; an input that is the shape of the only output is that shape."""
    found = list(random_inputs(input_types(graph)).values())
    shape = np.array(graph.outputs[0].shape, np.int32)
    wanted = [op for op in graph.ops if op.kind_name == "TRANSPOSE_CONV"]
    for op in wanted:
        for place, value in enumerate(graph.given):
            if op.inputs_present[0] is value and value.type.dtype is DType.INT32:
                found[place] = shape
    return found


def outcome(path: Path, device: str) -> Outcome:
    """Run a model once on random inputs and compare. Raises nothing but what is a mistake."""
    try:
        graph = read_graph(path)
        inputs = given(graph)
        with load(path, device, options={"cache": "off"}) as model:
            mine = model.run(*inputs)
            stored = pack(model.artefact)
            where = ", ".join(n.split()[-1] for n in model.report().totals()["operations"])
        with load(stored, device) as model:
            again = model.run(*inputs)
        assert all(np.array_equal(a, b) for a, b in zip(mine, again, strict=True)), "its .teflon"
        if device != "cpu":
            found = compare(graph, inputs, device, cache="off")
            return Outcome(apart=found.worst, where=where)
    except TeflonError as error:
        return Outcome(refusal=f"{type(error).__name__}: {error}")
    if path.stem in DANGEROUS:
        return Outcome(oracle=DANGEROUS[path.stem], where=where)
    try:
        theirs = Oracle(path).run(inputs)
    except (ValueError, RuntimeError) as error:  # made for microcontrollers
        return Outcome(oracle=str(error), where=where)
    return Outcome(apart=_apart(mine, theirs), ratio=_ratio(mine, theirs), where=where)


def _apart(mine: Sequence[Array], theirs: Sequence[Array]) -> int:
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if b.dtype.kind in "iub"]
    assert all(a.shape == b.shape for a, b in zip(mine, theirs, strict=True))
    return max(
        (int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0)) for a, b in pairs),
        default=0,
    )


def _ratio(mine: Sequence[Array], theirs: Sequence[Array]) -> float:
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if b.dtype.kind == "f"]
    return max((_ratio_of(a, b) for a, b in pairs), default=0.0)


def _ratio_of(mine: Array, theirs: Array) -> float:
    assert np.array_equal(np.isfinite(mine), np.isfinite(theirs))
    largest = float(np.abs(theirs).max(initial=0, where=np.isfinite(theirs)))
    far = np.abs(mine - theirs).max(initial=0, where=np.isfinite(theirs))
    return float(far) / (largest or 1.0)


def main(names: Sequence[str]) -> int:
    """Print the table, of the named models or of all, and the reasons of those that are refused."""
    chosen = [path for path in public() if not names or path.stem in names]
    found = {path.stem: [outcome(path, device) for device in DEVICES] for path in chosen}
    print(table([(name, *row) for name, row in found.items()], ("model", *DEVICES)))
    print("\nlargest difference: steps, or a part of the largest float; where operations ran\n")
    for name, row in found.items():
        if row[0].refusal:
            print(f"{name}: {row[0].refusal}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
