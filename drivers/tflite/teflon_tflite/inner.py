"""Open small models in a TFLite runtime, and try them: here, or as a program of its own.

As a program it reads requests from its standard input and answers each with a line of JSON, until
its input ends. It imports nothing of Teflon, so that it starts quickly.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import numpy as np

_UNKNOWN = "Didn't find op"
_CUSTOM = "Encountered unresolved custom op: "


def interpreter_class(runtime: str) -> tuple[Any, Any]:
    """Import a runtime and return its classes Interpreter and OpResolverType."""
    if runtime == "tensorflow":
        lite: Any = importlib.import_module("tensorflow").lite
        return lite.Interpreter, lite.experimental.OpResolverType
    module: Any = importlib.import_module(f"{runtime}.interpreter")
    return module.Interpreter, module.OpResolverType


def open_model(runtime: str, content: bytes, fast: bool, threads: int) -> Any:
    """Return an interpreter without allocated tensors. Raises ValueError, RuntimeError.

    `fast` takes the kernels for speed; else the reference kernels, and those that are built in
    where the reference lacks an operator or does not know blocks of weights with their own scales:
    it gives zeros for these, without an error.
    """
    interpreter, kernels = interpreter_class(runtime)

    def opened(kind: Any) -> Any:
        return interpreter(
            model_content=content, num_threads=threads, experimental_op_resolver_type=kind
        )

    if fast:
        return opened(kernels.BUILTIN)
    try:
        found = opened(kernels.BUILTIN_REF)
    except ValueError as error:
        if _UNKNOWN not in str(error):
            raise
        return opened(kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    if any(detail["quantization_parameters"].get("block_size") for detail in _details(found)):
        return opened(kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return found


def _details(opened: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = opened.get_tensor_details()
    return found


def words(error: Exception) -> str:
    """Return what the runtime says, in one line."""
    text = str(error)
    if _CUSTOM in text:
        name = text.split(_CUSTOM, 1)[1].split("\n", 1)[0].strip().rstrip(".")
        return f"the TFLite runtime has no custom operation {name!r}"
    line = " ".join(text.split()) or type(error).__name__
    line = line.split(" Node number ", 1)[0] if " Node number " in line else line
    line = line.split("Node number ", 1)[0] if not line.startswith("Node number ") else line
    return f"the TFLite runtime refuses it: {line.rstrip(' .')}"


def trial(runtime: str, content: bytes, fast: bool, run: bool) -> str:
    """Return why a model cannot be opened; empty if it can. `run` also runs it on zeros."""
    try:
        opened = open_model(runtime, content, fast, 1)
        opened.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        return words(error)
    if run:
        try:
            for detail in opened.get_input_details():
                if detail["dtype"] not in (np.object_, np.bytes_, np.str_):
                    empty = np.zeros(detail["shape"], detail["dtype"])
                    opened.set_tensor(detail["index"], empty)
            opened.invoke()
        except (ValueError, RuntimeError):
            pass  # zeros need not be good inputs; that it comes back is what was asked
    return ""


def shapes(runtime: str, content: bytes, inputs: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return the shapes of all tensors that have memory once the inputs have theirs.

    Raises ValueError, RuntimeError.
    """
    opened = open_model(runtime, content, False, 1)
    for number, shape in inputs.items():
        opened.resize_tensor_input(int(number), shape)
    opened.allocate_tensors()
    found = {}
    for detail in opened.get_tensor_details():
        shape = [int(n) for n in detail["shape"]]
        if 0 in shape or _has_memory(opened, detail):
            found[str(detail["index"])] = shape
    return found


def _has_memory(opened: Any, detail: Any) -> bool:
    """Whether a tensor has its place: one whose shape is not known yet has none."""
    try:
        opened.tensor(detail["index"])()
    except (ValueError, RuntimeError):
        return False
    return True


def answer(request: dict[str, Any], content: bytes) -> dict[str, Any]:
    """Return the answer to one request."""
    runtime = request["runtime"]
    try:
        if "shapes" in request:
            return {"shapes": shapes(runtime, content, request["shapes"])}
        return {"problem": trial(runtime, content, request["fast"], run=True)}
    except (ValueError, RuntimeError, ImportError) as error:
        return {"problem": words(error)}


def main() -> None:
    """Answer until the input ends; what the runtime prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        content = requests.read(request["size"])
        answers.write(json.dumps(answer(request, content)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
