"""Opening and compiling models: finds the frontend of a file, and uses the compile cache."""

from __future__ import annotations

import os

from teflon import files, limits, trace
from teflon.compile import teflon_file
from teflon.compile.artefact import Artefact
from teflon.compile.artefact_cache import Shapes, artefact_key, keep, recall
from teflon.compile.cache import Cache
from teflon.compile.chain import DEFAULT, Host
from teflon.compile.planning import SILENT, Watch, compile_graph
from teflon.compile.teflon_file import TeflonFile
from teflon.errors import ModelError, OptionError, TeflonError, shown
from teflon.ir.graph import Graph
from teflon.pipe import Device, Frontend, ModelFile, Source, mistaken_for
from teflon.plugins import formats

AnyModelFile = ModelFile | TeflonFile
"""An opened model file of any format, or an opened compiled model."""

_HEAD = 64
"""Bytes from the beginning of a file that frontends see."""


def open_model(source: Source) -> AnyModelFile:
    """Open a model with the frontend that recognises its content, else its file name's suffix.

    Raises ModelError for a file that cannot be read or that no frontend recognises, ProgramError
    for a compiled model that is damaged, OptionError for a source that is neither path nor bytes.
    """
    name, head = _name_and_head(source)
    if head.startswith(teflon_file.MAGIC):
        if isinstance(source, bytes):
            return teflon_file.parse(source, name)
        return teflon_file.open_file(source)
    frontend = _frontend(name, head)
    try:
        found = frontend.read(source)
    except (TeflonError, OSError, MemoryError):
        raise
    except Exception as error:  # other people's frontends may raise anything
        raise _frontend_error(name, frontend, f"{type(error).__name__}: {error}") from error
    if problem := _model_file_problem(found):
        raise _frontend_error(name, frontend, problem)
    return found


def read_graph(source: Source) -> Graph:
    """Return the verified graph of a model. Raises what `open_model` raises."""
    return graph_of(open_model(source))


def compile_model(
    model: Graph | AnyModelFile,
    device: Device,
    cache: Cache,
    watch: Watch = SILENT,
    host: Host = DEFAULT,
    shapes: Shapes | None = None,
) -> Artefact:
    """Compile a model for a device, and for the chain of `host` what that device cannot run.

    `shapes` are new shapes of inputs by name. Raises ModelError for a file that is malformed or
    cannot take the shapes, OptionError for an input that is not there, ProgramError for a compiled
    model that is damaged or made for another device, UnsupportedOperation if no device can run an
    operation.
    """
    if shapes and not isinstance(model, ModelFile):
        raise OptionError("shapes: this model is compiled or a graph, must be a model file")
    if isinstance(model, TeflonFile):
        artefact = model.artefact(device, host)
        check_limits(artefact.plan.graph, model.path)
        return artefact
    if isinstance(model, Graph):
        return compile_graph(model, device, cache, watch, host)
    key = artefact_key(model, device, cache, host, shapes)
    known = recall(key, model, device, cache, host) if key else None
    if known is not None:
        check_limits(known.plan.graph, model.name)
        return known
    artefact = compile_graph(graph_of(model, shapes), device, cache, watch, host)
    if key:
        keep(key, model, artefact, cache)
    return artefact


def _model_file_problem(found: object) -> str:
    """Return why what a frontend returned is not a model file; empty if it is one."""
    if not isinstance(found, ModelFile):
        return f"it returned {found!r}, must be a ModelFile"
    name, content = getattr(found, "name", None), getattr(found, "content", None)
    if not isinstance(name, str):
        return f"the name of its ModelFile is {name!r}, must be a text"
    if not isinstance(content, bytes | memoryview):
        kind = type(content).__name__
        return f"the content of its ModelFile is of type {kind}, must be bytes or a memoryview"
    return ""


def graph_of(model: AnyModelFile, shapes: Shapes | None = None) -> Graph:
    """Read a model file, with new shapes of inputs if some are given.

    Raises ModelError, also where its reader raises something else; OptionError for wrong shapes.
    """
    name = model.path if isinstance(model, TeflonFile) else model.name
    with trace.span("read", file=name):
        try:
            graph: object = _resized(model, shapes) if shapes else model.graph()
        except (TeflonError, OSError, MemoryError):
            raise
        except Exception as error:  # other people's readers may raise anything
            raise _reader_error(name, model, f"{type(error).__name__}: {error}") from error
    if not isinstance(graph, Graph):
        raise _reader_error(name, model, f"it returned {shown(graph)}, must be a Graph")
    check_limits(graph, name)
    return graph


def check_limits(graph: Graph, name: str) -> None:
    """Raise ModelError if a graph is larger than a model that is not trusted may be."""
    if limits.current() is limits.TRUSTED:
        return
    limits.check_time(name)
    limits.check(name, "operations", len(graph.ops), "operations")
    limits.check(
        name, "bytes of tensors", sum(v.type.size_bytes for v in graph.values), "tensor_bytes"
    )
    limits.check(name, "multiply-accumulates", sum(op.macs for op in graph.ops), "macs")


def _resized(model: AnyModelFile, shapes: Shapes) -> Graph:
    if isinstance(model, TeflonFile):
        raise OptionError(f"{model.path}: is compiled already, its inputs' shapes are fixed")
    return model.resized_graph(shapes)


def _reader_error(name: str, model: AnyModelFile, why: str) -> ModelError:
    kind = type(model)
    return ModelError(
        f"{name}: reader {kind.__module__}.{kind.__qualname__} failed, {why}"
        " (please report it to its authors)"
    )


def name_of(source: Source) -> str:
    """Return a source's name in messages."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else os.fsdecode(source)


def _name_and_head(source: object) -> tuple[str, bytes]:
    """Return a source's name and first bytes. Raises ModelError, OptionError."""
    if isinstance(source, bytes):
        limits.check(name_of(source), "bytes", len(source), "file_bytes")
        return name_of(source), source[:_HEAD]
    if not isinstance(source, str | os.PathLike):
        what = type(source).__name__
        raise OptionError(f"model: is of type {what}, must be a path or the bytes of a file")
    try:
        name = os.fsdecode(source)
    except Exception as error:  # a class of the caller's
        raise OptionError(f"model: is {shown(source)}, which has no path ({error})") from error
    try:
        return name, files.head(source, _HEAD)
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}, must be a readable file") from error
    except ValueError as error:  # a NUL in the path
        raise ModelError(f"{name!r}: is not a path, {error}") from error


def _frontend(name: str, head: bytes) -> Frontend:
    """Return the frontend for a file. Raises ModelError, which lists the known formats."""
    known = formats().frontends.values()
    for frontend in known:
        if _recognises(frontend, head):
            return frontend
    for frontend in known:
        if name.lower().endswith(tuple(frontend.suffixes)):
            return frontend
    raise ModelError(_unknown_format(name, head))


def _recognises(frontend: Frontend, head: bytes) -> bool:
    try:
        return bool(frontend.sniff(head))
    except Exception:  # `sniff` of other people's frontends may raise, though it must not
        return False


def _unknown_format(name: str, head: bytes) -> str:
    meant = mistaken_for(head)
    what = f"is {meant}" if meant else "is empty" if not head else "has no known format"
    rows = [f"{', '.join(f.suffixes)} ({f.summary})" for f in formats().frontends.values()]
    rows.append(f"{teflon_file.SUFFIX} (written by teflon compile)")
    broken = "".join(f"; frontend {n} is broken: {why}" for n, why in formats().broken.items())
    return f"{name}: {what}, must be one of {', '.join(rows)}{broken}"


def _frontend_error(name: str, frontend: Frontend, why: str) -> ModelError:
    return ModelError(
        f"{name}: frontend {frontend.name} failed, {why} (please report it to its authors)"
    )
