"""What the interface promises beside the numbers: programs as bytes, refusals, threads, lifetimes.

Every check is a function of the bench that returns a problem, or an empty text; `Refused` says that
this device has nothing to look at.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from teflon.devices import SIMULATED, has_simulator, open_device
from teflon.errors import (
    DriverUnavailable,
    OptionError,
    ProgramError,
    TeflonError,
    UnsupportedOperation,
)
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon.pipe import Program
from teflon_common import program as container
from teflon_common.conformance.bench import Bench, Outcome, Status
from teflon_common.conformance.case import Case
from teflon_common.conformance.graphs import random_inputs
from teflon_common.conformance.grid import cases
from teflon_common.conformance.strangers import Stranger, renamed, unknown_operation

Check = Callable[[Bench], str]
CHECKS: dict[str, Check] = {}
"""Name, as in `contract[round-trip]`, -> check."""

SAMPLE = 8
"""How many programs a check looks at."""

STATISTICS = ("tasks", "jobs", "command_words", "coefficient_bytes", "macs")
PROBE_SECONDS = 0.02


class Refused(TeflonError):
    """The device has nothing that this check could look at."""


def check(look: Check) -> Check:
    """Declare a check; its name is the function's."""
    CHECKS[look.__name__.replace("_", "-")] = look
    return look


def run_check(bench: Bench, name: str) -> Outcome:
    """Run a check of the contract."""
    try:
        problem = CHECKS[name](bench)
    except Refused as reason:
        return Outcome(Status.SKIP, str(reason))
    except Exception as error:  # whatever a stranger's driver raises
        return Outcome(Status.CRASH, f"{type(error).__name__}: {error}")
    return Outcome(Status.FAIL, problem) if problem else Outcome(Status.PASS)


def samples(bench: Bench) -> list[tuple[Case, Graph, Program]]:
    """Return small cases of different operations that the device runs whole.

    Raises Refused where there is none.
    """
    found: dict[tuple[str, str], tuple[Case, Graph, Program]] = {}
    for case in cases():
        kind = (case.op, case.form)
        if kind in found or len(found) == SAMPLE:
            continue
        graph = case.graph()
        if any(bench.device.unsupported(op, graph) for op in graph.ops):
            continue
        if program := bench.program(graph):
            found[kind] = (case, graph, program)
    if not found:
        raise Refused("the device runs no case of the grid")
    return list(found.values())


@check
def round_trip(bench: Bench) -> str:
    """A program that was written and read is the same, and computes the same."""
    for case, graph, program in samples(bench):
        data = program.to_bytes()
        again = bench.device.load(data)
        if again.to_bytes() != data:
            return f"{case.name}: its bytes are others after reading them"
        if list(again.inputs) != list(program.inputs) or list(again.outputs) != list(
            program.outputs
        ):
            return f"{case.name}: inputs or outputs are others after reading it"
        if dict(again.statistics) != dict(program.statistics):
            return f"{case.name}: statistics are others after reading it"
        inputs = random_inputs(case.random, graph)
        for have, want in zip(bench.run(again, inputs), bench.run(program, inputs), strict=True):
            if not np.array_equal(have, want):
                return f"{case.name}: computes other numbers after reading it"
    return ""


@check
def same_model_same_bytes(bench: Bench) -> str:
    """Compiling is deterministic."""
    for case, _, program in samples(bench):
        second = bench.program(case.graph())
        if second is None or second.to_bytes() != program.to_bytes():
            return f"{case.name}: two compilations give different bytes"
    return ""


@check
def damaged_program(bench: Bench) -> str:
    """Bytes that were changed, cut off or are no program are refused with ProgramError."""
    data = samples(bench)[0][2].to_bytes()
    places = np.linspace(0, len(data) - 1, 12).astype(int)
    broken = [data[:p] + bytes([data[p] ^ 0x10]) + data[p + 1 :] for p in places]
    broken += [b"", b"x" * 100, data[:-1], data[: len(data) // 2], data + b"\0"]
    for number, wrong in enumerate(broken):
        try:
            bench.device.load(wrong)
        except ProgramError as error:
            if not str(error):
                return f"damage {number}: refused without a word"
        else:
            return f"damage {number}: {len(wrong)} bytes were taken, must be refused"
    return ""


@check
def wrong_chip(bench: Bench) -> str:
    """A program for another chip is refused, and both chips are named."""
    data = samples(bench)[0][2].to_bytes()
    for other, wrong in _for_others(bench, data):
        try:
            bench.device.load(wrong)
        except ProgramError as error:
            if other not in str(error) or bench.device.chip not in str(error):
                return f"refused with {str(error)!r}, must name {other} and {bench.device.chip}"
        else:
            return f"a program for {other} was taken"
    return ""


def _for_others(bench: Bench, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield chips and programs for them: of the driver's other chips, else with another name."""
    others = [chip for chip in bench.driver.chips if chip != bench.device.chip]
    graph = samples(bench)[0][1]
    for chip in others:
        device = bench.driver.device(chip, bench.options)
        with suppress(TeflonError):
            yield chip, device.compile(graph).to_bytes()
    if others:
        return
    if data[: len(container.MAGIC)] != container.MAGIC:
        raise Refused("the driver has one chip, and a format of its own")
    yield "chip-of-nobody", renamed(data, bench.device.driver, "chip-of-nobody")


@check
def program_of_another_driver(bench: Bench) -> str:
    """A context refuses programs that its driver did not make."""
    try:
        bench.context.load(Stranger())
    except ProgramError:
        return ""
    return "was loaded, must be refused with ProgramError"


@check
def refused_operation(bench: Bench) -> str:
    """An operation that nobody knows has reasons, and compiling it raises UnsupportedOperation."""
    graph = unknown_operation()
    reasons = bench.device.unsupported(graph.ops[0], graph)
    if not reasons:
        return "an operation that nobody knows was accepted"
    try:
        bench.device.compile(graph)
    except UnsupportedOperation as error:
        return "" if "FROBNICATE" in str(error) else f"{error}: must name the operation"
    return "was compiled, must raise UnsupportedOperation"


@check
def reasons_are_sentences(bench: Bench) -> str:
    """`unsupported` never raises; it returns a list of texts that are not empty."""
    for case in cases():
        graph = case.graph()
        for op in graph.ops:
            reasons = bench.device.unsupported(op, graph)
            if not isinstance(reasons, list) or not all(isinstance(r, str) and r for r in reasons):
                return f"{case.name}: reasons are {reasons!r}"
    return ""


@check
def unknown_chip(bench: Bench) -> str:
    """A chip that the driver does not know is refused by name."""
    try:
        bench.driver.device("chip-of-nobody", {})
    except DriverUnavailable as error:
        return "" if "chip-of-nobody" in str(error) else f"{error}: must name the chip"
    return "was accepted, must raise DriverUnavailable"


@check
def unknown_option(bench: Bench) -> str:
    """An option that nobody knows is refused by name."""
    try:
        open_device(bench.device.chip, {"option-of-nobody": "1"})
    except OptionError as error:
        return "" if "option-of-nobody" in str(error) else f"{error}: must name the option"
    return "was accepted, must raise OptionError"


@check
def statistics(bench: Bench) -> str:
    """Programs tell their counts and sizes."""
    for case, _, program in samples(bench):
        found = dict(program.statistics)
        wrong = [n for n in STATISTICS if not isinstance(found.get(n), int) or found[n] < 0]
        if wrong:
            return f"{case.name}: {', '.join(wrong)} missing or not a count"
    return ""


@check
def description(bench: Bench) -> str:
    """`describe` returns a text."""
    for case, _, program in samples(bench):
        if not bench.device.describe(program).strip():
            return f"{case.name}: describe returned nothing"
    return ""


@check
def inputs_stay_outputs_are_new(bench: Bench) -> str:
    """Inputs are not written to, may change after submit; outputs are the caller's own."""
    for case, graph, program in samples(bench):
        if problem := _lifetimes(bench, program, random_inputs(case.random, graph)):
            return f"{case.name}: {problem}"
    return ""


def _lifetimes(bench: Bench, program: Program, inputs: list[Array]) -> str:
    kept = [a.copy() for a in inputs]
    loaded = bench.context.load(program)
    try:
        first = bench.context.invoke(loaded, inputs)
        if not all(np.array_equal(a, b) for a, b in zip(inputs, kept, strict=True)):
            return "an input was written to"
        fence = bench.context.submit(loaded, inputs)
        for array in inputs:
            array[...] = 0
        second = fence.wait()
        for array, type_ in zip(second, program.outputs, strict=True):
            if array.shape != type_.shape or array.dtype != type_.dtype.numpy:
                return f"output is {array.dtype}{array.shape}, must be as the program says"
        for array in first:
            array[...] = 0
    finally:
        loaded.close()
    wanted = bench.run(program, kept)
    same = all(np.array_equal(a, b) for a, b in zip(second, wanted, strict=True))
    return "" if same else "an output changed with another one, or with an input after submit"


@check
def fences_in_any_order(bench: Bench) -> str:
    """Several inferences may be under way; each fence has its own outputs, more than once."""
    case, graph, program = samples(bench)[0]
    random = case.random
    given = [random_inputs(random, graph) for _ in range(4)]
    wanted = [bench.run(program, inputs) for inputs in given]
    loaded = bench.context.load(program)
    try:
        fences = [bench.context.submit(loaded, inputs) for inputs in given]
        for fence, want in reversed(list(zip(fences, wanted, strict=True))):
            for _ in range(2):
                if not _same(fence.wait(), want):
                    return "a fence has another inference's outputs"
            if not fence.done():
                return "a fence that was waited for is not done"
    finally:
        loaded.close()
    return ""


@check
def threads(bench: Bench) -> str:
    """Several threads may use a context, and a program, at the same time."""
    jobs = []
    for case, graph, program in samples(bench)[:2]:
        inputs = random_inputs(case.random, graph)
        jobs.append((bench.context.load(program), inputs, bench.run(program, inputs)))
    wrong: list[str] = []

    def work(number: int) -> None:
        loaded, inputs, want = jobs[number % len(jobs)]
        for _ in range(5):
            try:
                if not _same(bench.context.invoke(loaded, inputs), want):
                    wrong.append(f"thread {number} got other numbers than alone")
            except Exception as error:
                wrong.append(f"thread {number}: {type(error).__name__}: {error}")

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for loaded, _, _ in jobs:
        loaded.close()
    return wrong[0] if wrong else ""


def _same(have: Sequence[Array], want: Sequence[Array]) -> bool:
    return len(have) == len(want) and all(
        np.array_equal(a, b) for a, b in zip(have, want, strict=True)
    )


@check
def closing_twice(bench: Bench) -> str:
    """Closing again does nothing; what is closed runs nothing and says so."""
    case, graph, program = samples(bench)[0]
    loaded = bench.context.load(program)
    loaded.close()
    loaded.close()
    try:
        bench.context.invoke(loaded, random_inputs(case.random, graph))
    except TeflonError:
        pass
    else:
        return "a closed program ran"
    if not has_simulator(bench.driver) and bench.device.driver != "cpu":
        return ""
    spec = bench.device.chip
    if has_simulator(bench.driver):
        spec = SIMULATED + spec
    _, context = open_device(spec, bench.options)
    if context is not None:
        context.close()
        context.close()
    return ""


@check
def probing(bench: Bench) -> str:
    """A machine without the device: no node that can be used, nothing raised, under 20 ms."""
    if bench.device.driver == "cpu":
        raise Refused("the CPU is always there")
    with tempfile.TemporaryDirectory() as folder:
        found = bench.driver.probe(folder)
        if any(node.usable for node in found):
            return f"an empty machine has the node {found[0].path}"
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            bench.driver.probe(folder)
            taken.append(time.perf_counter() - start)
    return "" if min(taken) < PROBE_SECONDS else f"took {min(taken) * 1000:.1f} ms, may take 20"
