"""Print how far every network in every form is from onnxruntime.

`python -m tests.frontend.onnx.sweep [NAME...]`: one line for each network and form. Operations that
are read and those that stay opaque; the worst of all results, each computed from onnxruntime's
operands, in steps; the distance of the whole network's outputs, where nothing is opaque.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import onnx

from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read
from teflon.ir import Graph, ops
from teflon.ir.interpreter import run
from teflon.ir.types import Array
from tests.frontend.onnx.foreign import MODELS
from tests.frontend.onnx.nets import NETS
from tests.frontend.onnx.oracle import compare, outputs, tensors
from tests.frontend.onnx.quantisers import FORMS, Form, inputs_of, quantised


def line(model: onnx.ModelProto, name: str) -> tuple[str, list[str]]:
    """Return what is to be told of one model, and what is wrong."""
    inputs = inputs_of(model, seed=7)
    data, shapes = model.SerializeToString(), {n: a.shape for n, a in inputs.items()}
    graph = read(data, name, shapes=shapes)
    assert isinstance(graph.origin, OnnxOrigin)
    found = compare(graph, dict(enumerate(graph.origin.names)), tensors(model, inputs))
    left = [op.kind for op in graph.ops if isinstance(op, ops.Opaque)]
    told = f"{len(graph.ops) - len(left)} read, opaque {','.join(left) or '-'}, {found.worst} steps"
    if not left:
        told += f", whole {whole(graph, model, inputs)}"
    return told, found.wrong()


def whole(graph: Graph, model: onnx.ModelProto, inputs: dict[str, Array]) -> str:
    """Return the largest difference of each output from onnxruntime's, computed either way."""
    ours = run(graph, [inputs[name] for name in graph.input_names])
    shown = []
    for optimised in (False, True):
        theirs = outputs(model, inputs, optimised=optimised)
        apart = [
            np.abs(np.subtract(a, b, dtype=np.float64)).max() / max(np.abs(b).max(), 1e-9)
            for a, b in zip(ours, theirs, strict=True)
            if a.size
        ]
        shown.append(f"{max(apart, default=0):.2%}")
    return " and ".join(shown)


def main() -> None:
    """Print the table, then the sum."""
    wanted = sys.argv[1:] or [*NETS, *MODELS]
    counts: Counter[str] = Counter()
    for name in wanted:
        for form in FORMS if name in NETS else (None,):
            try:
                model = MODELS[name]() if form is None else quantised(NETS[name](), form)
                outputs(model, inputs_of(model), optimised=False)
            except Exception:
                counts["not by onnxruntime"] += 1
                continue
            counts[_tell(name, form, model)] += 1
    sys.stdout.write(f"{dict(counts)}\n")


def _tell(name: str, form: Form | None, model: onnx.ModelProto) -> str:
    try:
        told, wrong = line(model, name)
    except Exception as error:
        told, wrong = "", [f"{type(error).__name__}: {error}"]
    sys.stdout.write(f"{name:28} {form or 'as written':24} {told}\n")
    for sentence in wrong:
        sys.stdout.write(f"    WRONG {sentence}\n")
    return "wrong" if wrong else "right"


if __name__ == "__main__":
    main()
