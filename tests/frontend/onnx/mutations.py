"""Damage good .onnx files at random, by bytes and by fields; as a program too.

`python -m tests.frontend.onnx.mutations COUNT [SEED]` prints what was tried and stops at the first
defect; it leaves the file it works on beside it, for the case that the process dies.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from teflon.errors import TeflonError
from teflon.frontend.onnx.reader import read
from teflon.ir import Graph
from tests.frontend.onnx import foreign
from tests.frontend.onnx.nets import NETS
from tests.frontend.onnx.quantisers import FEW, quantised_net

QUANTISED = ("residual", "classifier", "concat_channels", "resize_linear", "conv_transpose",
             "squeeze_excite", "attention", "shuffle", "split", "pad_value",
             "slice_steps")  # fmt: skip
FLOAT = ("condition", "dynamic_size", "shape_arithmetic", "constant_nodes", "softmax_11", "conv_3d",
         "average_pool_counted", "depth_to_space", "argmax")  # fmt: skip

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1 << 15, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40)
REALS = (0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38, 1e-30)

SECONDS = 1.0
"""What reading and cutting one file may take."""
BYTES_PER_BYTE, BYTES_FREE = 64, 1 << 22
"""What they may allocate: so many bytes for each of the file, beyond so many."""


def seeds() -> list[bytes]:
    """Return the good files; one needs shapes."""
    models = [quantised_net(name, FEW[n % len(FEW)]) for n, name in enumerate(QUANTISED)]
    models += [NETS[name]() for name in FLOAT]
    models += [make() for make in foreign.MODELS.values()]
    return [model.SerializeToString() for model in models]


def damaged(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """Return one of the files with a few random changes of its bytes, or of its fields."""
    data = files[rng.integers(len(files))]
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            data = _BYTES[rng.integers(len(_BYTES))](rng, data, files) if data else data
        return data
    model = onnx.ModelProto.FromString(data)
    for _ in range(int(rng.integers(1, 4))):
        _FIELDS[rng.integers(len(_FIELDS))](rng, model)
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError):  # a surrogate in a name
        return data


def _flip(rng: np.random.Generator, data: bytes, files: list[bytes]) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


def _byte(rng: np.random.Generator, data: bytes, files: list[bytes]) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]


def _truncate(rng: np.random.Generator, data: bytes, files: list[bytes]) -> bytes:
    return data[: rng.integers(len(data))]


def _splice(rng: np.random.Generator, data: bytes, files: list[bytes]) -> bytes:
    other = files[rng.integers(len(files))]
    return data[: rng.integers(len(data))] + other[rng.integers(len(other)) :]


def _remove(rng: np.random.Generator, data: bytes, files: list[bytes]) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


_BYTES: tuple[Callable[[np.random.Generator, bytes, list[bytes]], bytes], ...] = (
    _flip, _byte, _byte, _truncate, _splice, _remove,
)  # fmt: skip


def _pick(rng: np.random.Generator, items: Any) -> Any:
    return items[int(rng.integers(len(items)))] if len(items) else None


def _names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    found = [n for node in graph.node for n in (*node.input, *node.output)]
    return [*found, *(v.name for v in graph.input), "", "nowhere"]


def _rename(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Let a node read or make another tensor: cycles, two makers, nothing at all."""
    node = _pick(rng, model.graph.node)
    if node is None:
        return
    side = node.input if rng.random() < 0.6 else node.output
    if len(side):
        side[int(rng.integers(len(side)))] = _pick(rng, _names(model))


def _operands(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Give a node more or fewer operands or results."""
    node = _pick(rng, model.graph.node)
    if node is None:
        return
    side = node.input if rng.random() < 0.7 else node.output
    if len(side) and rng.random() < 0.5:
        del side[int(rng.integers(len(side)))]
    else:
        side.append(_pick(rng, _names(model)))


def _kind(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node, other = _pick(rng, model.graph.node), _pick(rng, model.graph.node)
    if node is not None:
        node.op_type = str(
            _pick(rng, (other.op_type, "QLinearConv", "Reshape", "QGemm", "Gemm", "X"))
        )
        node.domain = str(_pick(rng, (node.domain, "", "com.microsoft", "ai.onnx", "x")))


def _attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    nodes = [n for n in model.graph.node if n.attribute]
    node = _pick(rng, nodes)
    if node is None:
        return
    attribute = _pick(rng, node.attribute)
    choice = rng.integers(7)
    if choice == 0:
        node.attribute.remove(attribute)
    elif choice == 1:
        attribute.type = int(rng.integers(15))
    elif choice == 2:
        attribute.s = b"\xff\xfe" if rng.random() < 0.5 else b"SAME_UPPER"
    elif choice == 3:
        attribute.f = _pick(rng, REALS)
    elif choice == 4 and len(attribute.ints):
        attribute.ints[int(rng.integers(len(attribute.ints)))] = _pick(rng, NUMBERS)
    elif choice == 5:
        attribute.ints.append(_pick(rng, NUMBERS))
    else:
        attribute.i = _pick(rng, NUMBERS)


def _constant(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Change an initialiser's type, shape, data or place."""
    tensor = _pick(rng, model.graph.initializer)
    if tensor is None:
        return
    choice = rng.integers(7)
    if choice == 0:
        tensor.data_type = int(rng.integers(28))
    elif choice == 1 and len(tensor.dims):
        tensor.dims[int(rng.integers(len(tensor.dims)))] = _pick(rng, NUMBERS)
    elif choice == 2:
        tensor.dims.append(_pick(rng, NUMBERS))
    elif choice == 3:
        tensor.raw_data = rng.bytes(int(rng.integers(12)))
    elif choice == 4:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key = str(_pick(rng, ("location", "offset", "length", "")))
        entry.value = str(_pick(rng, ("../../etc/passwd", "/dev/zero", "-1", "x.bin", "")))
    elif choice == 5:
        tensor.name = _pick(rng, _names(model))
    else:
        _special(rng, tensor)


def _special(rng: np.random.Generator, tensor: onnx.TensorProto) -> None:
    """Put a special number into an initialiser: scales, shapes, axes."""
    kind = {1: (np.float32, REALS), 7: (np.int64, NUMBERS)}.get(tensor.data_type)
    if kind and len(tensor.raw_data) >= np.dtype(kind[0]).itemsize:
        data = np.frombuffer(tensor.raw_data, np.uint8).copy()
        size = np.dtype(kind[0]).itemsize
        at = int(rng.integers(data.size // size)) * size
        value = np.array([_pick(rng, kind[1])]).astype(kind[0])
        data[at : at + size] = value.view(np.uint8)
        tensor.raw_data = data.tobytes()


def _type(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Change what is said of an input, an output or an inner tensor."""
    graph = model.graph
    value = _pick(rng, (*graph.input, *graph.output, *graph.value_info))
    if value is None:
        return
    choice, tensor = rng.integers(6), value.type.tensor_type
    if choice == 0:
        tensor.elem_type = int(rng.integers(28))
    elif choice == 1 and len(tensor.shape.dim):
        _pick(rng, tensor.shape.dim).dim_value = _pick(rng, NUMBERS)
    elif choice == 2 and len(tensor.shape.dim):
        del tensor.shape.dim[int(rng.integers(len(tensor.shape.dim)))]
    elif choice == 3:
        tensor.ClearField("shape")
    elif choice == 4:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    else:
        value.name = _pick(rng, _names(model))


def _order(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    """Move, repeat or remove a node."""
    nodes = list(model.graph.node)
    if not nodes:
        return
    at, to = rng.integers(len(nodes), size=2)
    choice = rng.integers(3)
    if choice == 0:
        nodes.insert(to, nodes.pop(at))
    elif choice == 1:
        nodes.insert(to, nodes[at])
    else:
        nodes.pop(at)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _versions(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    if len(model.opset_import) and rng.random() < 0.7:
        _pick(rng, model.opset_import).version = int(_pick(rng, (*NUMBERS, 6, 10, 11, 13, 22, 30)))
    else:
        model.ir_version = _pick(rng, NUMBERS)


_FIELDS: tuple[Callable[[np.random.Generator, onnx.ModelProto], None], ...] = (
    _rename, _rename, _operands, _kind, _attribute, _attribute, _attribute, _constant, _constant,
    _constant, _type, _type, _order, _versions,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What reading one file, and cutting it into pieces, came to."""

    error: str
    seconds: float
    peak_bytes: int
    pieces: int = 0
    refused: int = 0

    def defect(self, size: int) -> str:
        """Return what is wrong with the reader, not with the file; empty if nothing is."""
        limit = BYTES_PER_BYTE * size + BYTES_FREE
        if self.peak_bytes > limit:
            return f"allocated {self.peak_bytes} bytes for a file of {size}, limit {limit}"
        return f"took {self.seconds:.2f} s" if self.seconds > SECONDS else ""


def outcome(data: bytes, rng: np.random.Generator) -> Outcome:
    """Read a file, and cut pieces out of it. What is no TeflonError passes through: a defect."""
    tracemalloc.start()
    start, error, pieces, refused = time.process_time(), "", 0, 0
    try:
        graph = read(data, "fuzz")
        problems = list(graph.problems())
        pieces, refused = _cut(graph, rng)
    except TeflonError as caught:
        error, problems = str(caught), []
    finally:
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if problems:
        raise AssertionError(f"a graph that does not verify: {problems[0]}")
    return Outcome(error, seconds, peak, pieces, refused)


def _cut(graph: Graph, rng: np.random.Generator) -> tuple[int, int]:
    """Cut a few runs of operations out of the file; return how many, and how many it refused."""
    pieces = refused = 0
    for _ in range(2 if graph.ops else 0):
        first, last = sorted(rng.integers(len(graph.ops), size=2))
        part = graph.subgraph(graph.ops[first : last + 1])
        assert part.origin is not None
        try:
            made = part.origin.cut(part)
        except TeflonError:
            refused += 1
            continue
        pieces += 1
        try:
            onnx.ModelProto.FromString(made.content)
        except DecodeError as error:
            raise AssertionError("a piece that is no model") from error
        assert len(made.inputs) == len(part.inputs)
        assert len(made.outputs) == len(part.outputs)
    return pieces, refused


def kind(error: str) -> str:
    """Return the sentence without names and numbers."""
    words = error.split(": ", 1)[-1].split()
    return " ".join(w for w in words if not any(c.isdigit() or c in "'[" for c in w))[:80]


def main() -> None:
    """Fuzz; leave the file that shows a defect in the working folder."""
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    rng, files = np.random.default_rng(seed), seeds()
    kinds: Counter[str] = Counter()
    pieces = refused = 0
    slowest, place = 0.0, Path("fuzz-defect.onnx")
    for _ in range(count):
        data = damaged(rng, files)
        place.write_bytes(data)
        try:
            found = outcome(data, rng)
            defect = found.defect(len(data))
        except Exception as error:
            defect = f"{type(error).__name__}: {error}"
        if defect:
            sys.exit(f"seed {seed}, after {sum(kinds.values())}: {defect} ({place})")
        kinds[kind(found.error)] += 1
        pieces, refused = pieces + found.pieces, refused + found.refused
        slowest = max(slowest, found.seconds)
    place.unlink()
    sys.stdout.write(f"seed {seed}: {sum(kinds.values())} files, {kinds['']} read; {pieces} pieces"
                     f" cut, {refused} refused; at most {slowest * 1e3:.0f} ms\n")  # fmt: skip
    for name, number in kinds.most_common(60):
        sys.stdout.write(f"{number:8} {name}\n")


if __name__ == "__main__":
    main()
