"""Small graphs of every operation with extreme scales, zero points, weights and biases.

`python -m tests.whole.extreme_numbers COUNT [FIRST]` runs them on all devices and prints a table.
"""

from __future__ import annotations

import collections
import sys
import warnings
from collections.abc import Callable

import numpy as np

from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.devices import open_device
from teflon.errors import TeflonError, UnsupportedOperation
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import Array
from teflon.run.model import Model
from tests.whole.wrapping import overflow

DEVICES = ("sim:rk3588", "sim:a311d", "sim:s905d3", "sim:imx8mp", "cpu")

GOOD = ("right", "left to the CPU", "refused", "no graph", "the reference wraps")

STEPS = 3
"""How far a result of the NPU may be from the reference, in a graph of up to two operations."""

Random = np.random.Generator
Make = Callable[[Random, Builder, Value, str], Value]


def scale_of(random: Random, near: float = 0.02) -> float:
    """Return a scale: mostly a usual one, else one that is as far off as float32 goes."""
    kind = random.integers(0, 10)
    if kind < 4:
        return float(np.float32(near * 2 ** random.uniform(-2, 2)))
    if kind < 7:
        return float(np.float32(near * 10 ** random.uniform(-6, 6)))
    if kind < 9:
        return float(np.float32(10 ** random.uniform(-38, 38)))
    return float(random.choice(np.array([1e-45, 1.2e-38, 3e38, 1.0, 2**-30, 2**30], np.float32)))


def zero_of(random: Random, dtype: str) -> int:
    least = 0 if dtype == "u8" else -128
    return int(random.choice([least, least + 1, least + 128, least + 254, least + 255]))


def bias_of(random: Random, count: int) -> Array:
    most = int(random.choice([0, 1000, 2**20, 7 * 10**8, 2**31 - 1]))
    return random.integers(-most - 1, most + 1, count, np.int64).astype(np.int32)


def weights_of(random: Random, shape: tuple[int, ...], dtype: str) -> Array:
    kind = {"u8": np.uint8, "i8": np.int8}[dtype]
    info = np.iinfo(kind)
    if random.integers(0, 3) == 0:
        return np.full(shape, random.choice([info.min, info.max]), kind)
    return random.integers(info.min, info.max + 1, shape, kind)


def result(random: Random, dtype: str) -> dict[str, object]:
    return {"scale": scale_of(random), "zero_point": zero_of(random, dtype)}


def kernel(random: Random, dtype: str) -> dict[str, object]:
    zero = 0 if dtype == "i8" else zero_of(random, dtype)
    return {"weight_scale": scale_of(random), "weight_zero_point": zero}


def conv2d(random: Random, b: Builder, x: Value, dtype: str) -> Value:
    size = int(random.choice([1, 3]))
    weights = weights_of(random, (8, size, size, x.shape[3]), dtype)
    how = {**result(random, dtype), **kernel(random, dtype)}
    activation = random.choice(["none", "relu", "relu6"])
    return b.conv2d(x, weights, bias_of(random, 8), activation=activation, **how)  # type: ignore[arg-type]


def depthwise(random: Random, b: Builder, x: Value, dtype: str) -> Value:
    weights = weights_of(random, (1, 3, 3, x.shape[3]), dtype)
    how = {**result(random, dtype), **kernel(random, dtype)}
    return b.depthwise_conv2d(x, weights, bias_of(random, x.shape[3]), **how)  # type: ignore[arg-type]


def transposed(random: Random, b: Builder, x: Value, dtype: str) -> Value:
    weights = weights_of(random, (8, 2, 2, x.shape[3]), dtype)
    how = {**result(random, dtype), **kernel(random, dtype)}
    size = (2 * x.shape[1], 2 * x.shape[2])
    return b.transpose_conv(x, weights, bias_of(random, 8), size=size, stride=2, **how)  # type: ignore[arg-type]


def fully_connected(random: Random, b: Builder, x: Value, dtype: str) -> Value:
    how = {**result(random, dtype), **kernel(random, dtype)}
    weights = weights_of(random, (10, x.type.size), dtype)
    return b.fully_connected(x, weights, bias_of(random, 10), **how)  # type: ignore[arg-type]


def pair_of(name: str) -> Make:
    def make(random: Random, b: Builder, x: Value, dtype: str) -> Value:
        other = b.input("other", dtype, x.shape, scale_of(random), zero_of(random, dtype))
        found: Value = getattr(b, name)(x, other, **result(random, dtype))
        return found

    return make


def one_of(name: str) -> Make:
    def make(random: Random, b: Builder, x: Value, dtype: str) -> Value:
        found: Value = getattr(b, name)(x, **result(random, dtype))
        return found

    return make


def pooled(name: str) -> Make:
    def make(random: Random, b: Builder, x: Value, dtype: str) -> Value:
        found: Value = getattr(b, name)(x, 2, padding="same")
        return found

    return make


def concatenation(random: Random, b: Builder, x: Value, dtype: str) -> Value:
    other = b.input("other", dtype, x.shape, scale_of(random), zero_of(random, dtype))
    return b.concatenation([x, other])


MAKES: tuple[Make, ...] = (
    conv2d, conv2d, depthwise, transposed, fully_connected,
    *map(pair_of, ("add", "sub", "mul")),
    *map(one_of, ("relu", "relu6", "leaky_relu", "hard_swish", "logistic", "tanh", "abs")),
    *map(pooled, ("average_pool2d", "max_pool2d")), concatenation,
)  # fmt: skip


def graph_of(seed: int) -> Graph:
    """Return one or two operations after each other. Raises TeflonError for what is no graph."""
    random = np.random.default_rng(seed)
    dtype = str(random.choice(["u8", "i8"]))
    b = Builder(f"extreme{seed}")
    shape = (1, 5, 6, int(random.choice([1, 3, 16])))
    x = b.input("x", dtype, shape, scale_of(random), zero_of(random, dtype))
    y = MAKES[seed % len(MAKES)](random, b, x, dtype)
    if random.integers(0, 3) == 0 and len(y.shape) == 4:
        y = conv2d(random, b, y, dtype)
    b.output(y)
    return b.build()


def inputs_of(graph: Graph, seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 256, v.shape, np.uint8).view(v.type.dtype.numpy) for v in graph.inputs
    ]


def outputs_of(graph: Graph, device: str, given: list[Array]) -> tuple[list[Array], bool]:
    """Return the outputs, and whether the device itself ran something."""
    opened, context = open_device(device)
    artefact = compile_graph(graph, opened, NONE)
    with Model(artefact, context) as model:
        return model.run(*given), any(p.device == 0 for p in artefact.plan.partitions)


def outcome(seed: int, device: str) -> str:
    """Return `right`, `left to the CPU`, `off by N`, or the error."""
    try:
        with np.errstate(all="ignore"):  # the builder's own guesses
            graph = graph_of(seed)
    except TeflonError:
        return "no graph"
    given = inputs_of(graph, seed)
    try:
        wanted, _ = outputs_of(graph, "cpu", given)
        found, taken = outputs_of(graph, device, given)
    except UnsupportedOperation:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    off = max(
        int(np.abs(f.astype(np.int64) - w.astype(np.int64)).max())
        for f, w in zip(found, wanted, strict=True)
    )
    if off > (0 if device == "cpu" else STEPS):
        return "the reference wraps" if any(map(wraps, graph.ops)) else f"off by {off}"
    return "right" if taken else "left to the CPU"


def wraps(op: Op) -> bool:
    """Whether a sum of the operation may overflow the 32 bits of TFLite's arithmetic."""
    if isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv):
        return overflow(op) is not None
    return False


def main(count: str, first: str = "0") -> None:
    """Print what became of all cases, and each that is wrong."""
    warnings.simplefilter("error")
    for device in DEVICES:
        found: collections.Counter[str] = collections.Counter()
        for seed in range(int(first), int(first) + int(count)):
            text = outcome(seed, device)
            found[text.partition(":")[0] if ":" in text else text] += 1
            if text not in GOOD:
                name = getattr(MAKES[seed % len(MAKES)], "__name__", "")
                print(f"{device} seed {seed} {name}: {text[:200]}")
        print(device, dict(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
