"""Models as users name them: which frontend reads a file, and what is compiled of it."""

from __future__ import annotations

import os

from teflon import trace
from teflon.compile import teflon_file
from teflon.compile.artefact import Artefact
from teflon.compile.artefact_cache import artefact_key, keep, recall
from teflon.compile.cache import Cache
from teflon.compile.planning import NOBODY, Watch, compile_graph
from teflon.compile.teflon_file import TeflonFile
from teflon.devices import with_cpu
from teflon.errors import ModelError, OptionError, TeflonError
from teflon.ir.graph import Graph
from teflon.pipe import Device, Frontend, ModelFile, Source, mistaken_for
from teflon.plugins import formats

Opened = ModelFile | TeflonFile
"""A model file of any format, opened: it is read or compiled when that is needed."""

_HEAD = 64
"""Bytes at the beginning of a file that frontends may look at."""


def open_model(source: Source) -> Opened:
    """Open a model with the frontend that recognises it: by its content, else by its suffix.

    Raises ModelError for a file that cannot be read or that no frontend recognises, ProgramError
    for a compiled one that is damaged, OptionError for what is neither a path nor bytes.
    """
    name, head = _beginning(source)
    if head.startswith(teflon_file.MAGIC):
        if isinstance(source, bytes):
            return teflon_file.parse(source, name)
        return teflon_file.open_file(source)
    frontend = _frontend(name, head)
    try:
        found = frontend.read(source)
    except (TeflonError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever a stranger's reader raises
        raise _failed(name, frontend, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, ModelFile):
        raise _failed(name, frontend, f"it returned {found!r}, must be a ModelFile")
    return found


def read_graph(source: Source) -> Graph:
    """Return the verified graph of a model. Raises what `open_model` raises."""
    found = open_model(source)
    with trace.span("read", file=name_of(source)):
        return found.graph()


def compile_model(
    model: Graph | Opened, device: Device, cache: Cache, watch: Watch = NOBODY
) -> Artefact:
    """Return what is compiled of a model for a device and the CPU.

    Raises ModelError for a file that is malformed, ProgramError for a compiled one that is damaged
    or made for another device.
    """
    if isinstance(model, TeflonFile):
        return model.artefact(with_cpu(device))
    if isinstance(model, Graph):
        return compile_graph(model, device, cache, watch)
    key = artefact_key(model, device, cache)
    known = recall(key, model, with_cpu(device), cache) if key else None
    if known is not None:
        return known
    with trace.span("read", file=model.name):
        graph = model.graph()
    artefact = compile_graph(graph, device, cache, watch)
    if key:
        keep(key, model, artefact, cache)
    return artefact


def name_of(source: Source) -> str:
    """Return how messages name a source."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else os.fspath(source)


def _beginning(source: object) -> tuple[str, bytes]:
    """Return a source's name and first bytes. Raises ModelError, OptionError."""
    if isinstance(source, bytes):
        return name_of(source), source[:_HEAD]
    if not isinstance(source, str | os.PathLike):
        raise OptionError(f"model: is {source!r}, must be a path or the bytes of a file")
    name = os.fspath(source)
    try:
        with open(source, "rb") as file:
            return name, file.read(_HEAD)
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}, must be a readable file") from error
    except ValueError as error:  # a NUL in the path
        raise ModelError(f"{name!r}: is no path, {error}") from error


def _frontend(name: str, head: bytes) -> Frontend:
    """Return who reads a file. Raises ModelError with the formats that are known."""
    known = formats().frontends.values()
    for frontend in known:
        if _recognises(frontend, head):
            return frontend
    suffix = os.path.splitext(name)[1].lower()
    for frontend in known:
        if suffix in frontend.suffixes:
            return frontend
    raise ModelError(_unknown(name, head))


def _recognises(frontend: Frontend, head: bytes) -> bool:
    try:
        return bool(frontend.sniff(head))
    except Exception:  # a stranger's frontend that breaks its word recognises nothing
        return False


def _unknown(name: str, head: bytes) -> str:
    meant = mistaken_for(head)
    what = f"is {meant}" if meant else "is empty" if not head else "has no known format"
    rows = [f"{', '.join(f.suffixes)} ({f.summary})" for f in formats().frontends.values()]
    rows.append(f"{teflon_file.SUFFIX} (written by teflon compile)")
    broken = "".join(f"; frontend {n} is broken: {why}" for n, why in formats().broken.items())
    return f"{name}: {what}, must be one of {', '.join(rows)}{broken}"


def _failed(name: str, frontend: Frontend, why: str) -> ModelError:
    return ModelError(
        f"{name}: frontend {frontend.name} failed, {why} (please report it to its authors)"
    )
