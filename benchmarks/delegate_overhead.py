"""Measure what libteflon.so adds to an inference, on a device that computes nothing.

    python benchmarks/delegate_overhead.py [--runs 5]

The device takes every operation, so that a model is one partition. The times are medians. The
delegate adds the way from the interpreter to Python and back, and the copy of the outputs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from common import Row, arguments, at_hand, best_ms, show
from teflon.ir.graph import Graph, Op
from teflon.ir.types import Array
from teflon.pipe import Context, Data, Device, Driver, Executable, Fence, Node, Program
from teflon.plugins import discover

NAME = "null"
ROUNDS = 200  # inferences in each run


class NullProgram(Program):
    """A program without content: only the types of its inputs and outputs."""

    driver = chip = NAME
    statistics: Mapping[str, int] = {}

    def __init__(self, graph: Graph) -> None:
        self.inputs = [value.type for value in graph.inputs]
        self.outputs = [value.type for value in graph.outputs]

    def to_bytes(self) -> bytes:
        return b""


class NullDevice(Device):
    """A device that takes every operation."""

    driver = chip = NAME

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return []

    def compile(self, subgraph: Graph) -> Program:
        return NullProgram(subgraph)

    def load(self, data: Data) -> Program:
        raise NotImplementedError(NAME)


class NullExecutable(Executable, Fence):
    """A program that is loaded, and its inference: the outputs are the same zeros each time."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.outputs = [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.outputs]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        return self.outputs


class NullContext(Context):
    """An opened device that computes nothing."""

    def __init__(self) -> None:
        self.device = NullDevice()

    def load(self, program: Program) -> NullExecutable:
        return NullExecutable(program)

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        assert isinstance(executable, NullExecutable)
        return executable

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class NullDriver(Driver):
    """A driver that exists in this process only."""

    def probe(self, root: str = "/") -> list[Node]:
        return [Node(NAME, NAME, NAME)]

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        return NullDevice()

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        return NullContext()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    drivers = discover().drivers
    drivers[NAME] = NullDriver(NAME, "computes nothing", (NAME,))
    try:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        rows = [_row(name, path, runtime, options.runs) for name, path in at_hand(options.models)]
    except ImportError:
        print("no TFLite runtime (pip install 'teflon-npu[reference]')")
        return 0
    finally:
        del drivers[NAME]
    show("Delegate, microseconds per inference (medians)", rows, options, "delegate_overhead")
    return 0


def _row(name: str, path: Path, runtime: Any, runs: int) -> Row:
    delegate = runtime.load_delegate(teflon.delegate_path(), {"device": NAME})
    interpreter = runtime.Interpreter(str(path), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    ports = interpreter.get_input_details()
    inputs = [np.zeros(port["shape"], port["dtype"]) for port in ports]
    for port, array in zip(ports, inputs, strict=True):
        interpreter.set_tensor(port["index"], array)
    with teflon.load(path, NAME) as model:
        direct = best_ms(lambda: model.run(*inputs), runs * ROUNDS)[1] * 1e3
    through = best_ms(interpreter.invoke, runs * ROUNDS)[1] * 1e3
    size = sum(int(np.prod(p["shape"])) for p in interpreter.get_output_details())
    return {"model": name, "direct": direct, "delegate": through,
            "more": through - direct, "output elements": size}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
