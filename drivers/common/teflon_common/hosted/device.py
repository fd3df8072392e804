"""What a runtime is asked before it gets operations, and how they become a program."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from teflon.errors import EncodingError, ProgramError, TeflonError, UnsupportedOperation
from teflon.ir.graph import Cut, Graph, Op
from teflon.ir.held import is_held
from teflon.pipe import Cost, Data, Device, Program
from teflon_common.hosted.host import Host
from teflon_common.hosted.program import HostedProgram, Port, title_of
from teflon_common.processor import Step

KEPT = 4096
"""So many answers of runtimes are remembered in a process."""

_COMPLAINTS: dict[Any, str] = {}


class HostedDevice(Device):
    """Takes what a runtime runs; a subclass says which, and how it is found."""

    form: str
    """The format of the files that small models are cut out of."""
    version: str
    """Raised whenever programs change their meaning."""
    format_name: str
    """How messages name the format."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = dict(options)
        self.known = options["known"] == "yes"
        self._answers: WeakKeyDictionary[Op, list[str]] = WeakKeyDictionary()

    # What the driver says ------------------------------------------------------------------

    @abstractmethod
    def host(self) -> Host:
        """Return the runtime. Raises DriverUnavailable with the reason as one clause."""

    @abstractmethod
    def runtime(self) -> str:
        """Return the name of the runtime without importing it; empty without one."""

    def refusal(self, op: Op) -> str:
        """Return why the runtime must not be asked at all for an operation; empty if it may."""
        return ""

    def untried(self, op: Op) -> bool:
        """Whether the runtime knows an operation that cannot be tried alone."""
        return False

    def odd(self, ops: Iterable[Op]) -> bool:
        """Whether the runtime may end its process when it gets these operations."""
        return False

    # What a device says --------------------------------------------------------------------

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        if op not in self._answers:
            reason = self._reason(op, graph)
            self._answers[op] = [reason] if reason else []
        return self._answers[op]

    def _reason(self, op: Op, graph: Graph) -> str:
        origin = graph.origin
        if origin is None or origin.form != self.form:
            return f"the graph was not read from {self.format_name} file"
        if not op.refusal and not self.known:
            return "others compute it (option known=yes lets this runtime do it)"
        try:
            host = self.host()
            if reason := self.refusal(op):
                return reason
            if self.untried(op):
                return ""
            if op.refusal:
                return self._complaint(host, origin.cut(graph.subgraph([op])), [op])
            return ""
        except EncodingError as error:
            return error.reason
        except TeflonError as error:
            return str(error)

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        """Refuse known operations at the ends of a partition whose tensors the file does not have:
        a pass or the reader made them. What such an end would leave behind is refused with it.
        """
        found: dict[Op, str] = {}
        kept = [op for op in subgraph.ops if not op.refusal]
        while bad := _strangers(subgraph, [op for op in kept if op not in found], found):
            found |= bad
        return found

    def _complaint(self, host: Host, cut: Cut, ops: Sequence[Op]) -> str:
        key = (self.signature(), hashlib.sha256(cut.content).digest(), cut.inputs, cut.outputs)
        if key not in _COMPLAINTS:
            if len(_COMPLAINTS) >= KEPT:
                _COMPLAINTS.clear()
            _COMPLAINTS[key] = host.complaint(cut, self.odd(ops))
        return _COMPLAINTS[key]

    def compile(self, subgraph: Graph) -> Program:
        for op in subgraph.ops:
            if reasons := self.unsupported(op, subgraph):
                raise UnsupportedOperation(op.title, reasons)
        if subgraph.origin is None or subgraph.origin.form != self.form:
            raise EncodingError(f"{self.driver}: the graph was not read from {self.format_name}"
                                " file, must be")  # fmt: skip
        title = title_of([op.title for op in subgraph.ops])
        cut = subgraph.origin.cut(subgraph)
        if complaint := self._complaint(self.host(), cut, subgraph.ops):
            raise EncodingError(complaint, where=title)
        return HostedProgram(
            self.driver,
            self.chip,
            self.version,
            cut.content,
            tuple(
                Port(v.type, v.name, n) for v, n in zip(subgraph.inputs, cut.inputs, strict=True)
            ),
            tuple(
                Port(v.type, v.name, n) for v, n in zip(subgraph.outputs, cut.outputs, strict=True)
            ),
            tuple(Step.of(op) for op in subgraph.ops),
        )

    def signature(self) -> str:
        return f"{self.version} known={self.options['known']} {self.runtime()}"

    def load(self, data: Data) -> Program:
        return HostedProgram.from_bytes(data, self.driver, self.chip, self.version)

    def estimate(self, program: Program) -> list[Cost]:
        return [step.cost() for step in self._own(program).steps]

    def describe(self, program: Program) -> str:
        own = self._own(program)
        lines = [f"{self.driver} program, a {self.form} model of {len(own.content)} bytes:"]
        for word, ports in (("input", own.input_ports), ("output", own.output_ports)):
            lines += [
                f"  {word} {port.name!r}: held by the runtime"
                if port.is_held
                else f"  {word} {port.name!r}: {port.type.dtype.value}{list(port.type.shape)},"
                f" {port.runtime_name!r} in the model"
                for port in ports
            ]
        return "\n".join(lines + [f"  {step.title}" for step in own.steps])

    def _own(self, program: Program) -> HostedProgram:
        if not isinstance(program, HostedProgram) or program.driver != self.driver:
            raise ProgramError(
                f"{self.driver}: program is for {program.driver!r}, must be for {self.driver!r}"
            )
        return program


def _is_outside(op: Op | None, gone: Collection[Op]) -> bool:
    return op is None or op in gone


def _strangers(graph: Graph, asked: Iterable[Op], gone: Collection[Op]) -> dict[Op, str]:
    """Return the operations that would give to, or take from, others what is no tensor of the file.

    `gone` are operations that have left the partition already.
    """
    found: dict[Op, str] = {}
    for op in asked:
        ends = [v for v in op.inputs_present
                if not v.is_constant and _is_outside(graph.producer(v), gone)]  # fmt: skip
        ends += [v for v in op.results
                 if graph.is_output(v) or any(user in gone for user in graph.users(v))]  # fmt: skip
        made = next((v for v in ends if v.index < 0 and not is_held(v)), None)
        if made is not None:
            found[op] = f"tensor {made.name!r} is not one of the file's (a pass made it)"
    return found
