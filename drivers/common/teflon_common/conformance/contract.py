"""Checks of the interface, without arithmetic: programs as bytes, errors, threads, lifetimes.

A check is a function of the bench that returns a problem, or an empty text. It raises
`NotApplicable` if it cannot check anything on this device.
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
from teflon_common.conformance.strangers import (
    ForeignProgram,
    unknown_operation,
    with_other_chip,
)

Check = Callable[[Bench], str]
CHECKS: dict[str, Check] = {}
"""Name, such as `round-trip` in `contract[round-trip]` -> check."""

SAMPLE = 8
"""Number of programs that a check uses."""

STATISTICS = ("tasks", "jobs", "command_words", "coefficient_bytes", "macs")
PROBE_SECONDS = 0.02
UNKNOWN_CHIP = "unknown-chip"


class NotApplicable(TeflonError):
    """The check cannot check anything on this device; the text says why."""


def check(look: Check) -> Check:
    """Add a check; its name is that of the function, with hyphens."""
    CHECKS[look.__name__.replace("_", "-")] = look
    return look


def run_check(bench: Bench, name: str) -> Outcome:
    """Run a check and return how it ended."""
    try:
        problem = CHECKS[name](bench)
    except NotApplicable as reason:
        return Outcome(Status.SKIP, str(reason))
    except Exception as error:  # other people's drivers may raise anything
        return Outcome(Status.CRASH, f"{type(error).__name__}: {error}")
    return Outcome(Status.FAIL, problem) if problem else Outcome(Status.PASS)


def samples(bench: Bench) -> list[tuple[Case, Graph, Program]]:
    """Return small cases of different operations which the device runs without the CPU.

    Raises NotApplicable if there is none.
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
        raise NotApplicable("the device runs no case of the grid")
    return list(found.values())


@check
def round_trip(bench: Bench) -> str:
    """`load` returns a program with the same bytes, types, statistics and results."""
    for case, graph, program in samples(bench):
        data = program.to_bytes()
        again = bench.device.load(data)
        if again.to_bytes() != data:
            return f"{case.name}: the loaded program has different bytes"
        if list(again.inputs) != list(program.inputs) or list(again.outputs) != list(
            program.outputs
        ):
            return f"{case.name}: the loaded program has different inputs or outputs"
        if dict(again.statistics) != dict(program.statistics):
            return f"{case.name}: the loaded program has different statistics"
        inputs = random_inputs(case.random, graph)
        for have, want in zip(bench.run(again, inputs), bench.run(program, inputs), strict=True):
            if not np.array_equal(have, want):
                return f"{case.name}: the loaded program computes different numbers"
    return ""


@check
def same_model_same_bytes(bench: Bench) -> str:
    """Compiling the same model twice gives the same bytes."""
    for case, _, program in samples(bench):
        second = bench.program(case.graph())
        if second is None or second.to_bytes() != program.to_bytes():
            return f"{case.name}: two compilations give different bytes"
    return ""


@check
def damaged_program(bench: Bench) -> str:
    """`load` raises ProgramError for bytes that were changed, cut off or are not a program."""
    data = samples(bench)[0][2].to_bytes()
    places = np.linspace(0, len(data) - 1, 12).astype(int)
    broken = [data[:p] + bytes([data[p] ^ 0x10]) + data[p + 1 :] for p in places]
    broken += [b"", b"x" * 100, data[:-1], data[: len(data) // 2], data + b"\0"]
    for number, wrong in enumerate(broken):
        try:
            bench.device.load(wrong)
        except ProgramError as error:
            if not str(error):
                return f"damage {number}: the error has no text, must say why"
        else:
            return f"damage {number}: {len(wrong)} bytes were accepted, must be refused"
    return ""


@check
def wrong_chip(bench: Bench) -> str:
    """`load` refuses a program of another chip, and the error names both chips."""
    data = samples(bench)[0][2].to_bytes()
    for other, wrong in _for_others(bench, data):
        try:
            bench.device.load(wrong)
        except ProgramError as error:
            if other not in str(error) or bench.device.chip not in str(error):
                return f"refused with {str(error)!r}, must name {other} and {bench.device.chip}"
        else:
            return f"a program for {other} was accepted, must be refused"
    return ""


def _for_others(bench: Bench, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (chip, program) for the driver's other chips; without other chips, change the name in a
    program.
    """
    others = [chip for chip in bench.driver.chips if chip != bench.device.chip]
    graph = samples(bench)[0][1]
    for chip in others:
        device = bench.driver.device(chip, bench.options)
        with suppress(TeflonError):
            yield chip, device.compile(graph).to_bytes()
    if others:
        return
    if data[: len(container.MAGIC)] != container.MAGIC:
        raise NotApplicable("the driver has one chip, and a format of its own")
    yield UNKNOWN_CHIP, with_other_chip(data, bench.device.driver, UNKNOWN_CHIP)


@check
def program_of_another_driver(bench: Bench) -> str:
    """A context refuses programs of another driver."""
    try:
        bench.context.load(ForeignProgram())
    except ProgramError:
        return ""
    return "was loaded, must be refused with ProgramError"


@check
def refused_operation(bench: Bench) -> str:
    """An unknown operation is unsupported, and compiling it raises UnsupportedOperation."""
    graph = unknown_operation()
    reasons = bench.device.unsupported(graph.ops[0], graph)
    if not reasons:
        return "an unknown operation was accepted, must be refused"
    try:
        bench.device.compile(graph)
    except UnsupportedOperation as error:
        return "" if "FROBNICATE" in str(error) else f"{error}: must name the operation"
    return "was compiled, must raise UnsupportedOperation"


@check
def reasons_are_sentences(bench: Bench) -> str:
    """`unsupported` never raises, and it returns a list of texts that are not empty."""
    for case in cases():
        graph = case.graph()
        for op in graph.ops:
            reasons = bench.device.unsupported(op, graph)
            if not isinstance(reasons, list) or not all(isinstance(r, str) and r for r in reasons):
                return f"{case.name}: reasons are {reasons!r}"
    return ""


@check
def unknown_chip(bench: Bench) -> str:
    """The driver refuses an unknown chip, and the error names it."""
    try:
        bench.driver.device(UNKNOWN_CHIP, {})
    except DriverUnavailable as error:
        return "" if UNKNOWN_CHIP in str(error) else f"{error}: must name the chip"
    return "was accepted, must raise DriverUnavailable"


@check
def unknown_option(bench: Bench) -> str:
    """An unknown option is refused, and the error names it."""
    try:
        open_device(bench.device.chip, {"unknown-option": "1"})
    except OptionError as error:
        return "" if "unknown-option" in str(error) else f"{error}: must name the option"
    return "was accepted, must raise OptionError"


@check
def statistics(bench: Bench) -> str:
    """Programs have all required statistics."""
    for case, _, program in samples(bench):
        found = dict(program.statistics)
        wrong = [n for n in STATISTICS if not isinstance(found.get(n), int) or found[n] < 0]
        if wrong:
            return f"{case.name}: {', '.join(wrong)} missing or not a count, must be a count"
    return ""


@check
def description(bench: Bench) -> str:
    """`describe` returns a text that is not empty."""
    for case, _, program in samples(bench):
        if not bench.device.describe(program).strip():
            return f"{case.name}: describe returned an empty text"
    return ""


@check
def inputs_stay_outputs_are_new(bench: Bench) -> str:
    """Inputs stay unchanged; the caller may change inputs after submit, and outputs at any time."""
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
                return (
                    f"output is {array.dtype}{array.shape}, must be"
                    f" {type_.dtype.numpy}{type_.shape}"
                )
        for array in first:
            array[...] = 0
    finally:
        loaded.close()
    wanted = bench.run(program, kept)
    same = all(np.array_equal(a, b) for a, b in zip(second, wanted, strict=True))
    return "" if same else "an output changed with another one, or with an input after submit"


@check
def fences_in_any_order(bench: Bench) -> str:
    """Several inferences run at the same time; each fence returns its own outputs, also twice."""
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
                    return "a fence has the outputs of another inference"
            if not fence.done():
                return "a fence is not done after a wait for it"
    finally:
        loaded.close()
    return ""


@check
def threads(bench: Bench) -> str:
    """Several threads may use a context and a program at the same time."""
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
                    wrong.append(f"thread {number} got different numbers than a single thread")
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
    """A second `close` does nothing; a closed program raises an error when it should run."""
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
    """On a machine without the device, `probe` finds no usable node, and takes less than 20 ms."""
    if bench.device.driver == "cpu":
        raise NotApplicable("the CPU is always there")
    with tempfile.TemporaryDirectory() as folder:
        found = bench.driver.probe(folder)
        if any(node.usable for node in found):
            return f"probe found {found[0].path} on an empty machine, must find nothing"
        times = []
        for _ in range(5):
            start = time.perf_counter()
            bench.driver.probe(folder)
            times.append(time.perf_counter() - start)
    return "" if min(times) < PROBE_SECONDS else f"took {min(times) * 1000:.1f} ms, may take 20"
