"""The frontend of ONNX files, as the entry point `onnx` of the group `teflon.frontends`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from teflon.pipe import Data, Frontend, ModelFile, Source
from teflon.plugins import hookimpl

if TYPE_CHECKING:  # `teflon devices` asks this plugin, and must not import numpy for that
    from teflon.ir.graph import Graph

_VARINT, _BYTES = 0, 2
_VERSION, _MODEL_VERSION, _GRAPH, _OPSETS = 1, 5, 7, 8
_TEXTS = (2, 3, 4, 6)  # producer, its version, domain, description
_NEWEST_IR = 64


class OnnxFile(ModelFile):
    """A .onnx file; `folder` is where its external data files lie, None if it came as bytes."""

    def __init__(self, name: str, model: Data, folder: str | None = None) -> None:
        self.name = name
        self.model = model
        self.folder = folder

    @cached_property
    def content(self) -> Data:  # type: ignore[override]
        """The model's bytes; of one with external data also a digest of each of these files."""
        if b"location" not in bytes(self.model):
            return self.model
        from teflon.frontend.onnx.external import digests

        found = digests(self.model, self.name, self.folder)
        return bytes(self.model) + found if found else self.model

    def graph(self) -> Graph:
        """Return the graph. Raises ModelError."""
        from teflon.frontend.onnx.reader import read

        return read(self.model, self.name, self.folder)

    def resized_graph(self, shapes: Mapping[str, Sequence[int]]) -> Graph:
        """Return the graph with these shapes of inputs. Raises OptionError, ModelError."""
        from teflon.frontend.onnx.reader import read

        return read(self.model, self.name, self.folder, shapes)


class OnnxFrontend(Frontend):
    """Reads .onnx files; the reader and the package onnx are imported with the first one."""

    def sniff(self, head: bytes) -> bool:
        """Whether this is a ModelProto: a version, texts, then the graph or the operator sets.

        The format has no magic number. A file whose texts fill all of `head` is known by its name
        only.

        # Ref: onnx/onnx.proto (ModelProto)
        """
        at = 0
        for field, value, end in _fields(head):
            if at == 0 and not (field == _VERSION and 0 < value <= _NEWEST_IR):
                return False
            if field in (_GRAPH, _OPSETS):
                return at > 0 and value > 0
            if field in _TEXTS and not _is_text(head[end - value : end]):
                return False
            at = end
        return False

    def read(self, source: Source) -> OnnxFile:
        if isinstance(source, bytes):
            return OnnxFile("model.onnx", source)
        from teflon.frontend.mapped import map_file

        path = os.fspath(source)
        model = map_file(source, "a .onnx file")
        return OnnxFile(os.path.basename(path), model, os.path.dirname(os.path.abspath(path)))


def _fields(head: bytes) -> list[tuple[int, int, int]]:
    """Return (field, number or length, end) of what `head` begins with, as far as it goes."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at < len(head):
        key = head[at]
        value, at = _varint(head, at + 1)
        field, kind = key >> 3, key & 7
        if (
            at < 0
            or kind not in (_VARINT, _BYTES)
            or (kind == _VARINT) != (field in (_VERSION, _MODEL_VERSION))
        ):
            break
        if kind == _BYTES and field in _TEXTS:
            at += value
            if at > len(head):
                break
        found.append((field, value, at))
        if field in (_GRAPH, _OPSETS):
            break
    return found


def _varint(head: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place and the place after it, -1 where it does not end."""
    value = shift = 0
    for place in range(at, min(at + 10, len(head))):
        value |= (head[place] & 0x7F) << shift
        shift += 7
        if head[place] < 0x80:
            return value, place + 1
    return 0, -1


def _is_text(part: bytes) -> bool:
    try:
        return part.decode().isprintable() or not part
    except UnicodeDecodeError:
        return False


@hookimpl
def teflon_frontend() -> Frontend:
    """Describe the frontend."""
    return OnnxFrontend("onnx", "ONNX", (".onnx",))
