"""onnx's own test cases, one for each form of an operation, through our frontend and arithmetic.

As a program it prints how each kind of operation fares; with `--write` it writes the list of cases
that pass, which a test holds.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from teflon.errors import TeflonError, UnsupportedOperation
from teflon.frontend.onnx.reader import read
from teflon.ir import ops
from teflon.ir.types import Array
from teflon.run.load import load
from tests.frontend.onnx.oracle import session

LIST = Path(__file__).with_name("node_cases.txt")
"""The cases that pass."""

CONSTANT = "/constant"
"""Ends the name of a case whose inputs, except the first, were made initialisers."""


@dataclass(frozen=True)
class Case:
    """One model with inputs and expected outputs."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float

    @property
    def kind(self) -> str:
        return "+".join(node.op_type for node in self.model.graph.node)[:40]


def cases() -> Iterator[Case]:
    """Yield every case as onnx has it, then with what files have as constants as constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    for found in collected:
        assert found.model is not None
        for inputs, outputs in (found.data_sets or [])[:1]:
            case = Case(
                found.name, found.model, list(inputs), list(outputs), found.rtol, found.atol
            )
            yield case
            if (other := _constant(case)) is not None:
                yield other


def _constant(case: Case) -> Case | None:
    """Return the case with all inputs but the first as initialisers, if that is another."""
    if len(case.inputs) < 2 or not all(map(_is_numeric, case.inputs)):
        return None
    arrays = [np.asarray(a) for a in case.inputs[1:]]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    rest = list(model.graph.input[1:])
    if len(rest) != len(arrays):
        return None
    for value, array in zip(rest, arrays, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        model.graph.input.remove(value)
    return Case(case.name + CONSTANT, model, case.inputs[:1], case.outputs, case.rtol, case.atol)


def outcome(case: Case) -> str:
    """Return a word, and after a colon why.

    `passed`: our arithmetic gives what onnx says. `handed on`: a runtime does, as a part at least
    of the case is opaque. `nowhere`: no runtime takes it. `foreign`: it has strings, sequences or
    numbers that numpy lacks. `theirs`: onnxruntime, asked for the whole case, differs from onnx
    too. `refused`: the file is no graph for us. `wrong`: something else comes out.
    """
    if not all(map(_is_numeric, (*case.inputs, *case.outputs))):
        return "foreign"
    try:
        graph = read(case.model.SerializeToString(), case.name)
    except TeflonError as error:
        return f"refused: {error}"
    ours = bool(graph.ops) and not any(isinstance(op, ops.Opaque) for op in graph.ops)
    try:
        with load(graph, "cpu", options={"cache": "off"}) as model:
            made = model(*(np.asarray(a) for a in case.inputs))
        why = _difference(case, list(made.values()))
    except UnsupportedOperation as error:
        return f"nowhere: {error}"
    except TeflonError as error:
        why = str(error)
    if not why:
        return "passed" if ours else "handed on"
    return f"{'wrong' if ours or _runtime_is_right(case) else 'theirs'}: {why}"


def _is_numeric(array: object) -> bool:
    if isinstance(array, list | dict) or array is None:
        return False
    return np.asarray(array).dtype.kind in "biufc" and np.asarray(array).dtype.isbuiltin == 1


def _runtime_is_right(case: Case) -> bool:
    """Whether onnxruntime gives what onnx says."""
    names = [value.name for value in case.model.graph.input]
    try:
        made = session(case.model).run(None, dict(zip(names, case.inputs, strict=True)))
    except Exception:  # its errors have no common base but this one
        return False
    return not _difference(case, made)


def _difference(case: Case, ours: list[Array]) -> str:
    """Return how results differ from the expected ones; empty if they do not."""
    for have, want in zip(ours, case.outputs, strict=True):
        want = np.asarray(want)
        if have.dtype != want.dtype or have.shape != want.shape:
            return f"is {have.dtype}{list(have.shape)}, must be {want.dtype}{list(want.shape)}"
        if want.dtype.kind in "fc":
            if not np.allclose(have, want, case.rtol, case.atol, equal_nan=True):
                return f"{np.nanmax(np.abs(have - want)):.3g} apart"
        elif not np.array_equal(have, want):
            return f"{np.count_nonzero(have != want)} of {want.size} differ"
    return ""


def main() -> None:
    """Print a table; write the list of those that pass."""
    table: dict[str, Counter[str]] = {}
    passed, told = [], []
    for case in cases():
        word = outcome(case)
        table.setdefault(case.kind, Counter())[word.split(":")[0]] += 1
        if word == "passed":
            passed.append(case.name)
        elif word not in ("handed on", "foreign"):
            told.append(f"{case.name}: {word}")
    sys.stdout.write(f"{len(table)} kinds of models; of cases:\n")
    for kind in sorted(table):
        sys.stdout.write(f"{kind:<42}{dict(table[kind])}\n")
    sys.stdout.write("\n".join(told) + "\n")
    total: Counter[str] = sum(table.values(), Counter())
    sys.stdout.write(f"{dict(total)}\n")
    if "--write" in sys.argv:
        LIST.write_text("".join(f"{name}\n" for name in sorted(passed)))


if __name__ == "__main__":
    main()
