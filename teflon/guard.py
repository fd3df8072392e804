"""Drivers of other authors: what they raise and what they return, checked at the door.

A driver that is not of this package, its devices, contexts, executables and fences get each method
of the interface replaced, on the object itself, by one that calls it and then looks at the result.
So every other room may rely on the interface, and a mistake is a DriverFault that names the driver.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from teflon.errors import DriverFault, TeflonError, shown
from teflon.ir.graph import Graph, Op
from teflon.ir.types import Array, DType, TensorType
from teflon.pipe import Context, Cost, Device, Driver, Executable, Fence, Node, Program

Check = Callable[[Any, tuple[Any, ...]], str]
"""Returns what is wrong with a result, which was asked for with these arguments; "" if nothing."""


def guard_driver(driver: Driver) -> None:
    """Guard the methods of a driver, and of all that it makes."""
    wrap = functools.partial(_guard, driver, driver.name)
    wrap("device", _makes(Device, lambda device: guard_device(device, driver.name)))
    for name in ("open", "simulate"):
        wrap(name, _makes(Context, lambda context: guard_context(context, driver.name)))
    wrap("virtual_node")
    wrap("tensor_shapes", _is(Mapping))


def guard_device(device: Device, name: str) -> None:
    """Guard the methods of a device."""
    wrap = functools.partial(_guard, device, name)
    wrap("unsupported", _texts)
    wrap("doubts", _texts)
    wrap("notes", _texts)
    wrap("passes", _passes, lambda found: [_guarded_pass(one, name) for one in found])
    wrap("veto", _reasons)
    wrap("leave", _reasons)
    wrap("compile", lambda found, given: _program(found) or _same_ends(found, given))
    wrap("load", lambda found, _: _program(found))
    wrap("signature", _is(str | None))
    wrap("estimate", _each(Cost))
    for text in ("describe", "outline"):
        wrap(text, _is(str))
    for plain in ("divisible", "undivided", "absorbed"):
        wrap(plain)


def guard_context(context: Context, name: str) -> None:
    """Guard the methods of a context, and its device."""
    device: object = getattr(context, "device", None)
    if not isinstance(device, Device):
        raise DriverFault(name, f"context.device is {shown(device)}, must be a Device")
    guard_device(device, name)
    wrap = functools.partial(_guard, context, name)
    wrap("load", _makes(Executable, lambda made: _guard(made, name, "close")))
    wrap("submit", _fence(name))
    wrap("invoke", lambda found, given: outputs_problem(found, given[0].program.outputs))
    wrap("again", _makes(Context, lambda again: guard_context(again, name)))
    wrap("close")


def _guard(
    owner: Any,
    driver: str,
    name: str,
    check: Check = lambda found, given: "",
    change: Callable[[Any], Any] = lambda found: found,
) -> None:
    """Replace a method of an object by one that raises DriverFault; once for each object.

    `change` is applied to a result that is right.
    """
    method = getattr(owner, name, None)
    if getattr(method, "teflon_guard", False):
        return

    def call(*given: Any, **named: Any) -> Any:
        try:
            if not callable(method):
                raise TypeError(f"is {shown(method)}, must be a method")
            found = method(*given, **named)
        except TeflonError:
            raise
        except (Exception, SystemExit) as error:
            raise DriverFault(driver, f"{name} failed, {_told(error)}") from error
        try:
            problem = check(found, given)
        except TeflonError:
            raise
        except Exception as error:  # a result whose own methods fail
            problem = f"is unusable, {_told(error)}"
        if problem:
            raise DriverFault(driver, f"the result of {name} {problem}")
        return change(found)

    call.teflon_guard = True  # type: ignore[attr-defined]
    try:
        object.__setattr__(owner, name, call)
    except AttributeError:  # an object with slots is asked as it is
        return


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# what results must be


def probed(found: object, driver: Driver) -> list[Node]:
    """Return the nodes in a result of `probe`; for what is none, an unusable node that says so."""
    if not isinstance(found, list | tuple):
        problem = f"the result of the driver's probe is {shown(found)}, must be a list of Node"
        return [Node("", driver.name, problem=problem)]
    return [_node(node, driver) for node in found]


def _node(node: object, driver: Driver) -> Node:
    if not isinstance(node, Node):
        return Node("", driver.name, problem=f"the driver's probe returned {shown(node)}, no Node")
    texts = (node.path, node.driver, node.chip, node.problem, node.cure)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None or None in texts:
        problem = f"the driver's probe returned a Node with {shown(wrong)}, must have texts"
        return Node("", driver.name, problem=problem)
    if node.driver != driver.name:
        problem = f"the driver's probe returned a Node of driver {node.driver!r:.60}"
        return Node(node.path, driver.name, problem=problem)
    if node.usable and node.chip and node.chip not in driver.chips:
        problem = f"the driver's probe found the chip {node.chip!r:.60}, which the driver lacks"
        return replace(node, problem=problem)
    return node


def outputs_problem(found: object, wanted: Sequence[TensorType]) -> str:
    """Return what is wrong with the outputs of an inference; "" if nothing is."""
    if not isinstance(found, list | tuple) or len(found) != len(wanted):
        count = f"{len(found)} arrays" if isinstance(found, list | tuple) else shown(found)
        return f"is {count}, must be a list of {len(wanted)} arrays"
    return next(filter(None, map(_output_problem, range(len(wanted)), found, wanted)), "")


def _output_problem(number: int, array: Array, kind: TensorType) -> str:
    if not isinstance(array, np.ndarray):
        return f"has {shown(array)} as output {number}, must have an array"
    other = kind.dtype is not DType.OTHER and array.dtype != kind.dtype.numpy
    if other or (array.shape != kind.shape and not kind.dynamic):
        have = f"{array.dtype}{list(array.shape)}"
        return f"has {have} as output {number}, must have {kind.dtype.numpy}{list(kind.shape)}"
    return ""


def _is(kind: Any) -> Check:
    name = getattr(kind, "__name__", str(kind))
    return lambda found, _: "" if isinstance(found, kind) else f"is {shown(found)}, must be {name}"


def _each(kind: type) -> Check:
    def check(found: Any, _: tuple[Any, ...]) -> str:
        right = isinstance(found, list | tuple) and all(isinstance(item, kind) for item in found)
        return "" if right else f"is {shown(found)}, must be a list of {kind.__name__}"

    return check


_texts = _each(str)


def _makes(kind: type, guard: Callable[[Any], None]) -> Check:
    """Return a check of an object that is guarded in its turn."""

    def check(found: Any, _: tuple[Any, ...]) -> str:
        if not isinstance(found, kind):
            return f"is {shown(found)}, must be a {kind.__name__}"
        guard(found)
        return ""

    return check


def _fence(name: str) -> Check:
    def check(found: Any, given: tuple[Any, ...]) -> str:
        if not isinstance(found, Fence):
            return f"is {shown(found)}, must be a Fence"
        wanted = given[0].program.outputs
        _guard(found, name, "wait", lambda outputs, _: outputs_problem(outputs, wanted))
        _guard(found, name, "done")
        return ""

    return check


def _passes(found: Any, _: tuple[Any, ...]) -> str:
    if not isinstance(found, list | tuple) or not all(map(callable, found)):
        return f"is {shown(found)}, must be a list of functions"
    return ""


def _guarded_pass(transform: Callable[[Graph], Graph], driver: str) -> Callable[[Graph], Graph]:
    name = getattr(transform, "__name__", shown(transform))

    @functools.wraps(transform)
    def call(graph: Graph) -> Graph:
        try:
            found: object = transform(graph)
        except TeflonError:
            raise
        except (Exception, SystemExit) as error:
            raise DriverFault(driver, f"pass {name} failed, {_told(error)}") from error
        if not isinstance(found, Graph):
            raise DriverFault(
                driver, f"the result of pass {name} is {shown(found)}, must be a Graph"
            )
        return found

    return call


def _reasons(found: Any, given: tuple[Any, ...]) -> str:
    if not isinstance(found, Mapping):
        return f"is {shown(found)}, must be a mapping of operations to reasons"
    for op, reason in found.items():
        if not isinstance(op, Op) or not isinstance(reason, str):
            return f"has {shown(op)}: {shown(reason)}, must have operations and their reasons"
    return ""


def _program(found: Any) -> str:
    if not isinstance(found, Program):
        return f"is {shown(found)}, must be a Program"
    for end in ("inputs", "outputs"):
        if problem := _each(TensorType)(getattr(found, end, None), ()):
            return f"has {end} that {problem}".replace("that is", "that are", 1)
    counts: object = found.statistics
    if not isinstance(counts, Mapping):
        return f"has statistics that are {shown(counts)}, must be a mapping"
    return ""


def _same_ends(program: Program, given: tuple[Any, ...]) -> str:
    """Return where a program's inputs and outputs are not those of its graph."""
    graph: Graph = given[0]
    for end in ("inputs", "outputs"):
        have = [(t.dtype, t.shape) for t in getattr(program, end)]
        want = [(v.type.dtype, v.shape) for v in getattr(graph, end)]
        if have != want:
            return f"has {end} {shown(have)}, must have those of its graph, {shown(want)}"
    return ""
