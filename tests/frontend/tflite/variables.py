"""Random files with variables: read and assigned in any order, filled by CALL_ONCE or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from teflon.frontend.tflite.emit import table
from tests.frontend.tflite.helpers import code, model, operator, tensor

SIZE = 3
CODES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "ADD", "CALL_ONCE", "MUL")
HANDLE, READ, ASSIGN, ADD, ONCE, MUL = range(len(CODES))


@dataclass(frozen=True)
class Step:
    """Something that a file does with a variable: `read`, or `assign` of the tensor `which`."""

    what: str
    variable: int
    which: int


@dataclass(frozen=True)
class Plan:
    """A file: how many variables, which of them begin with numbers, and the steps."""

    variables: int
    filled: tuple[bool, ...]
    handles: int
    steps: tuple[Step, ...]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans in which no variable is read before it has a content: TFLite refuses to run that."""
    count = draw(st.integers(1, 3))
    filled = tuple(draw(st.booleans()) for _ in range(count))
    full = {n for n in range(count) if filled[n]}
    steps, made = [], 1  # tensors that can be read: the input, then the result of each step
    for _ in range(draw(st.integers(1, 7))):
        variable = draw(st.integers(0, count - 1))
        if variable in full and draw(st.booleans()):
            steps.append(Step("read", variable, 0))
            made += 1
        else:
            steps.append(Step("assign", variable, draw(st.integers(0, made - 1))))
            full.add(variable)
    return Plan(count, filled, draw(st.integers(1, 2)), tuple(steps))


class _File:
    def __init__(self) -> None:
        self.tensors: list[Any] = [tensor("x", (SIZE,), "FLOAT32")]
        self.operators: list[Any] = []
        self.constants: list[Any] = []

    def add(self, name: str, kind: str = "FLOAT32", data: Any = None, shape: Any = (SIZE,)) -> int:
        more: dict[str, Any] = {}
        if data is not None:
            self.constants.append(data)
            more["buffer"] = len(self.constants)
        self.tensors.append(tensor(name, shape, kind, **more))
        return len(self.tensors) - 1

    def handle(self, variable: int) -> int:
        number = self.add(f"handle{len(self.tensors)}", "RESOURCE", shape=())
        self.operators.append(handle(number, variable))
        return number


def handle(number: int, variable: int) -> Any:
    options = table("VarHandleOptions", container="box", shared_name=f"state{variable}")
    return operator([], [number], HANDLE, builtin_options=options)


def file_of(plan: Plan) -> bytes:
    """Return the file of a plan. Each step's result is doubled or added to the input, all are
    outputs; a variable may have several handles.
    """
    f = _File()
    once = table("CallOnceOptions", init_subgraph_index=1)
    f.operators.append(operator([], [], ONCE, builtin_options=once))
    handles = [[f.handle(v) for _ in range(plan.handles)] for v in range(plan.variables)]
    seen, outputs = [0], []
    for number, step in enumerate(plan.steps):
        handle_ = handles[step.variable][number % plan.handles]
        if step.what == "assign":
            f.operators.append(operator([handle_, seen[step.which]], [], ASSIGN))
            continue
        got, new = f.add(f"read{number}"), f.add(f"sum{number}")
        f.operators.append(operator([handle_], [got], READ))
        f.operators.append(operator([got, 0], [new], ADD, builtin_options=table("AddOptions")))
        seen.append(new)
        outputs += [got, new]
    last = f.add("last")
    f.operators.append(operator([0, 0], [last], MUL, builtin_options=table("MulOptions")))
    return model(
        f.tensors,
        f.operators,
        codes=[code(name) for name in CODES],
        outputs=[*outputs, last],
        constants=[*f.constants, *(_first(v) for v in range(plan.variables))],
        extra=[_filling(plan, len(f.constants))],
    )


def _first(variable: int) -> Any:
    return np.arange(SIZE, dtype=np.float32) + 10 * (variable + 1)


def _filling(plan: Plan, buffers: int) -> Any:
    """Return the subgraph that CALL_ONCE runs."""
    tensors: list[Any] = []
    operators: list[Any] = []
    for variable in range(plan.variables):
        if plan.filled[variable]:
            number = len(tensors)
            tensors += [
                tensor(f"h{variable}", (), "RESOURCE"),
                tensor(f"c{variable}", (SIZE,), "FLOAT32", buffer=buffers + variable + 1),
            ]
            operators += [handle(number, variable), operator([number, number + 1], [], ASSIGN)]
    return table("SubGraph", tensors=tensors, inputs=[], outputs=[], operators=operators)
