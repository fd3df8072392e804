"""Constants that lie in files beside the model.

# Ref: onnx/docs/ExternalData.md
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from teflon.errors import ModelError
from teflon.files import contents
from teflon.ir.types import Array
from teflon.pipe import Data

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto


def external_bytes(tensor: TensorProto, place: str, folder: str | None) -> Array:
    """Return the bytes of a constant in another file, mapped read only. Raises ModelError."""
    entries = {e.key: e.value for e in tensor.external_data}
    path = _path(entries.get("location", ""), place, folder)
    try:
        whole = np.frombuffer(contents(path), np.uint8)
    except OSError as error:
        raise ModelError(
            f"{place}: its data file {path}: {error.strerror or error}, must be a readable file"
        ) from error
    offset = _number(entries.get("offset", "0"), "offset", place)
    length = _number(entries.get("length", str(whole.size - offset)), "length", place)
    if offset + length > whole.size:
        raise ModelError(
            f"{place}: lies at {offset} to {offset + length} of {path}, which has {whole.size}"
            " bytes"
        )
    found: Array = np.asarray(whole[offset : offset + length])
    return found if offset % 16 == 0 else found.copy()


def inner_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the tensors in a graph's attributes, and all tensors of its subgraphs."""
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from inner.initializer
                yield from inner_tensors(inner)


def take_in(graph: GraphProto, name: str, folder: str | None) -> None:
    """Put the data of tensors in attributes and subgraphs, which are few and small, into them."""
    from onnx import TensorProto

    for tensor in inner_tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            raw = external_bytes(tensor, f"{name}: constant {tensor.name!r}", folder)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = raw.tobytes()


def digests(model: Data, name: str, folder: str | None) -> bytes:
    """Return a digest of each file that a model's constants lie in. Raises ModelError."""
    from onnx import TensorProto

    from teflon.frontend.onnx.model import load

    places: dict[str, str] = {}
    graph = load(model, name).graph
    for tensor in (*graph.initializer, *inner_tensors(graph)):
        if tensor.data_location == TensorProto.EXTERNAL:
            where = next((e.value for e in tensor.external_data if e.key == "location"), "")
            places.setdefault(where, f"{name}: initialiser {tensor.name!r}")
    found = b""
    for location, place in sorted(places.items()):
        path = _path(location, place, folder)
        try:
            with open(path, "rb") as file:
                found += hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise ModelError(
                f"{place}: its data file {path}: {error.strerror or error}, must be a readable file"
            ) from error
    return found


def _path(location: str, place: str, folder: str | None) -> str:
    if folder is None:
        raise ModelError(
            f"{place}: lies in the file {location!r}, must be loaded by its path (bytes of a model"
            " have no folder)"
        )
    inside = os.path.normpath(location)
    if not location or os.path.isabs(inside) or inside.split(os.sep)[0] == ".." or "\0" in location:
        raise ModelError(
            f"{place}: its data file is {location!r}, must be a path inside the model's folder"
        )
    path = os.path.join(folder, inside)
    root = os.path.realpath(folder)
    if os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise ModelError(
            f"{place}: its data file {location!r} is a link out of the model's folder, must be"
            " inside"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise ModelError(f"{place}: its data file {path} is a folder or device, must be a file")
    return path


def _number(text: str, what: str, place: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise ModelError(f"{place}: {what} is {text!r}, must be a whole number of 0 or more")
    return value
