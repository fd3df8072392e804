"""Run a model through libteflon.so in the tflite_runtime of this environment; no package of ours.

    python client.py LIBRARY DEVICE OUT MODEL INPUTS [MODEL INPUTS ...]

For every model OUT/NAME.npz gets the outputs by place, and the kinds of the interpreter's nodes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np


def run(runtime: Any, model: str, inputs: dict[str, Any], delegates: list[Any]) -> Any:
    """Return an interpreter after an inference."""
    made = runtime.Interpreter(
        model,
        num_threads=1,
        experimental_delegates=delegates,
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
    )
    made.allocate_tensors()
    for place, port in enumerate(made.get_input_details()):
        made.set_tensor(port["index"], inputs[str(place)])
    made.invoke()
    return made


def main() -> None:
    """Run all models with one delegate."""
    runtime: Any = importlib.import_module("tflite_runtime.interpreter")
    library, device, out = sys.argv[1:4]
    delegate = runtime.load_delegate(library, {"device": device})
    try:
        runtime.load_delegate(library, {"device": device, "nonsense": "1"})
    except ValueError as error:
        sys.stdout.write(f"{error}\n")
    for model, given in zip(sys.argv[4::2], sys.argv[5::2], strict=True):
        with np.load(given) as inputs:
            made = run(runtime, model, inputs, [delegate])
        ports = made.get_output_details()
        found = {str(i): made.get_tensor(port["index"]) for i, port in enumerate(ports)}
        kinds = [op["op_name"] for op in made._get_ops_details()]
        np.savez(Path(out) / f"{Path(model).stem}.npz", kinds=np.array(kinds), **found)


if __name__ == "__main__":
    main()
