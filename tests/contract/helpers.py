"""A small operation, a small device that refuses and vetoes, for tests of what leans on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from teflon.errors import DriverUnavailable, EncodingError
from teflon.ir import Array, DType, Graph, Op, TensorType, Value
from teflon.ir.interpreter import run
from teflon.pipe import Context, Data, Device, Driver, Executable, Fence, Node, Program

TYPE = TensorType(DType.UINT8, (4,))


@dataclass(frozen=True, eq=False, kw_only=True)
class Plus(Op):
    """Adds its operands and a number, modulo 256; `kind` is for devices to like or not."""

    mnemonic: ClassVar[str] = "test_plus"

    inputs: tuple[Value, ...]
    output: Value
    number: int = 0
    kind: str = ""

    def infer(self) -> tuple[TensorType, ...]:
        return (self.inputs[0].type,)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        total = np.full(self.output.shape, self.number, np.uint8)
        for array in operands:
            assert array is not None
            total = total + array
        return (total,)


def chain(*kinds: str) -> Graph:
    """Return x -> kind -> kind ... -> y, every operation adding one."""
    value = source = Value("x", TYPE)
    found: list[Op] = []
    for n, kind in enumerate(kinds):
        result = Value(f"v{n}", TYPE)
        found.append(Plus(inputs=(value,), output=result, number=1, kind=kind))
        value = result
    return Graph("chain", (source,), (value,), tuple(found)).verify()


def wired(*rows: tuple[str, str, Sequence[str]], outputs: Sequence[str]) -> Graph:
    """Return a graph of rows (result, kind, operands); `x` is the input."""
    values = {"x": Value("x", TYPE)}
    found: list[Op] = []
    for name, kind, operands in rows:
        values[name] = Value(name, TYPE)
        inputs = tuple(values[o] for o in operands)
        found.append(Plus(inputs=inputs, output=values[name], number=1, kind=kind))
    return Graph("wired", (values["x"],), tuple(values[o] for o in outputs), tuple(found)).verify()


@dataclass
class FakeDevice(Device):
    """Takes operations of kind `n`; vetoes and fails where a test says so."""

    kinds: tuple[str, ...] = ("n",)
    vetoes: Mapping[str, str] = field(default_factory=dict)  # result name -> reason
    unencodable: tuple[str, ...] = ()  # result names
    driver: str = "fake"
    chip: str = "f1"
    compiled: list[Graph] = field(default_factory=list)
    rewrites: tuple[Callable[[Graph], Graph], ...] = ()

    def passes(self) -> Sequence[Callable[[Graph], Graph]]:
        return self.rewrites

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        kind = op.kind if isinstance(op, Plus) else ""
        return [] if kind in self.kinds else [f"kind is {kind!r}"]

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        named = {op: self.vetoes.get(op.results[0].name) for op in subgraph.ops}
        return {op: reason for op, reason in named.items() if reason}

    def compile(self, subgraph: Graph) -> Program:
        for op in subgraph.ops:
            if op.results[0].name in self.unencodable:
                raise EncodingError(f"{op.title}: does not fit")
        self.compiled.append(subgraph)
        return FakeProgram(subgraph)

    def load(self, data: Data) -> Program:
        raise NotImplementedError


class FakeProgram(Program):
    driver = "fake"
    chip = "f1"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = [v.type for v in graph.inputs]
        self.outputs = [v.type for v in graph.outputs]

    @property
    def statistics(self) -> Mapping[str, int]:
        return {"tasks": len(self.graph.ops)}

    def to_bytes(self) -> bytes:
        return b"fake"


class FakeExecutable(Executable):
    def __init__(self, program: FakeProgram) -> None:
        self.program: Program = program
        self.graph = program.graph
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeFence(Fence):
    outputs: list[Array]

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        return self.outputs


class FakeContext(Context):
    def __init__(self, device: Device) -> None:
        self.device = device
        self.loaded: list[FakeExecutable] = []
        self.closed = 0
        self.submitted = 0

    def load(self, program: Program) -> Executable:
        assert isinstance(program, FakeProgram)
        self.loaded.append(FakeExecutable(program))
        return self.loaded[-1]

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        assert isinstance(executable, FakeExecutable)
        self.submitted += 1
        return FakeFence(run(executable.graph, inputs))

    def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class FakeDriver(Driver):
    """A driver with the nodes and the device that a test gives it."""

    nodes: tuple[Node, ...] = ()
    chip_device: FakeDevice = field(default_factory=FakeDevice)
    opened: list[FakeContext] = field(default_factory=list)

    def probe(self, root: str = "/") -> list[Node]:
        return list(self.nodes)

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        if chip not in self.chips:
            raise DriverUnavailable(f"{self.name}: no chip {chip}")
        return self.chip_device

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        self.opened.append(FakeContext(self.chip_device))
        return self.opened[-1]

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        self.opened.append(FakeContext(self.device(chip)))
        return self.opened[-1]
