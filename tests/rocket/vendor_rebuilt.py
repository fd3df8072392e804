# Ref: docs/hardware/rocket_vendor.md §0 (findings 1, 2, 9), §1 (operand blob, weights)
"""Networks of the vendor of which the lists are at hand, and not the file with the constants.

Their weights are quantised from the .onnx file by the vendor's rule, their tensors stand in PLANS:
a line for each task of one core, with what its addresses are relative to. (The files emax.rknn and
emax_tasks.json are of another network than the rest of emax.)
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teflon_rocket.addresses import ROLES
from teflon_rocket.registers import DPU, WRITE, split_command
from tests.rocket.lists import pack_weights
from tests.rocket.onnx_file import Floats, floats
from tests.rocket.vendor_file import (
    INT8,
    LAYOUT_SURFACES,
    Network,
    Operation,
    Relocation,
    TaskEntry,
    Tensor,
)

ALIGN, LANES = 64, 16
C0 = "input=x weights=c0_w output=c0"
YC, YD = "input=c0 weights=yc_w output=yc", "input=c0 weights=yd_w output=yd"
POOL = [C0, "input=c0 output=y"]
PAIR = [C0, YC, YD]
PLANS: dict[str, list[str]] = {
    "add": [C0, "input=c0 weights=yc_w+yd_w output=y"],
    "avg2": POOL,
    "avg3p1_incl": POOL,
    "concat_c": [*PAIR, "rdma_src=yc output=y", "rdma_src=yd output=y"],
    "concat_h": [*PAIR, "rdma_src=yc output=y", "rdma_src=yd output=y"],
    "convT": [C0, "input=c0 weights=yw output=y"],
    "emax": [*PAIR, "rdma_src=yc addition=yd output=y"],
    "gap14": [C0, "input=c0 weights=mean7x7 output=part", "input=part weights=mean2x2 output=y"],
    "gap7": [C0, "input=c0 weights=mean7x7 output=y"],
    "max2": POOL,
    "max3s2p1": POOL,
    "max3x2": POOL,
    "max7": POOL,
    "max9": [C0, "input=c0 output=part", "input=part output=y"],
    "mean": [C0, "input=c0 weights=mean7x7 output=part", "input=part weights=mean2x2 output=y"],
    "mul": [C0, YD, "input=c0 weights=yc_w rdma_src=yd addition=yd output=y"],
    "mul_chan": ["input=x weights=c0_w*yk output=y"],
    "resize_nn": [C0, "rdma_src=c0 output=y", "rdma_src=c0 output=y"],
    "slice_c": [C0, "rdma_src=c0 output=y"],
    "transpose": [
        C0,
        "rdma_src=c0 output=part room=12288",
        "rdma_src=part output=part",
        "rdma_src=part output=y",
    ],
    "sub": [*PAIR, "rdma_src=yc addition=yd output=y"],
}
"""Task by task: role of an address = tensor, or constants of the .onnx file; `room` is the size of
a tensor that holds more than it is. `mean7x7` is a
depthwise convolution of equal weights: whatever they are, the vendor stores them in the same way.
"""

Words = NDArray[np.uint64]
Ends = Callable[[Words, int], list[int]]


def rebuild(folder: Path, name: str, ends: Ends) -> Network:
    """The lists for one core, with tensors; `ends` cuts out the words of a task."""
    (part,) = json.loads((folder / f"{name}_words.json").read_text())
    words = np.array([int(word, 16) for word in part["words"]], "<u8")
    tasks = list(itertools.islice(_tasks(words, ends), len(PLANS[name])))
    with np.load(folder / f"{name}_sim.npz") as sim:
        given, wanted = sim["x"], sim["y"]
    build = _Builder(floats(folder / f"{name}.onnx"), words, ends)
    build.input(given)
    for number, plan in enumerate(PLANS[name]):
        build.task(tasks[number].first, dict(p.split("=") for p in plan.split()), wanted)
    tensors = tuple(build.tensors.values())
    return Network(
        name=name,
        tensors=tensors,
        operations=tuple(
            Operation("task", plan, True, (), (), (1, 0, 0, 0, 0, 0), 0) for plan in PLANS[name]
        ),
        inputs=(build.tensors["x"],),
        outputs=(build.tensors["y"],),
        tasks=tuple(tasks),
        starts=(0, len(tasks), len(tasks)),
        words=words,
        relocations=tuple(build.relocations),
        room=build.room,
    )


def _tasks(words: Words, ends: Ends) -> Iterator[TaskEntry]:
    """The lists in the order of the file: those for one core come first."""
    at = 0
    for number in itertools.count():
        found = ends(words, at)
        yield TaskEntry(number, split_command(found[-1])[2], 0, len(found), at)
        at += len(found)
        at += int(np.argmax(words[at:] != 0))


class _Builder:
    """Makes tensors in the order of the tasks: each has the zero point that its producer adds."""

    def __init__(self, constants: dict[str, Floats], words: Words, ends: Ends) -> None:
        self.constants, self.words, self.ends = constants, words, ends
        self.tensors: dict[str, Tensor] = {}
        self.relocations: list[Relocation] = []
        self.room = 0

    def input(self, values: Floats) -> None:
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scale = (high - low) / 255
        self._place("x", values.shape, scale, round(-128 - low / scale))

    def task(self, first: int, plan: dict[str, str], wanted: Floats) -> None:
        """Put what a task's addresses are relative to into the relocations."""
        commands = [split_command(word) for word in self.ends(self.words, first)]
        source = self.tensors[plan.get("input", plan.get("rdma_src", ""))]
        shape, made = source.shape, plan["output"]
        if "weights" in plan:
            kernels = self._weights(plan["weights"], source)
            shape = (1, kernels, *_size(commands))
            plan = plan | {"biases": plan["weights"] + " operands"}
        zero = _zero(commands, source)
        if made == "y":
            self._place(made, wanted.shape, _step(wanted), zero)
        else:
            least = int(plan.get("room", 0))
            self._place(made, shape, 1.0, zero, least)  # nobody asks for the scale
        self.relocations += [
            Relocation(first + at, value, plan[role])
            for at, (target, offset, value) in enumerate(commands)
            if (role := ROLES.get((target, offset), "")) in plan
        ]

    def _place(
        self, name: str, shape: tuple[int, ...], scale: float, zero: int, least: int = 0
    ) -> None:
        if name in self.tensors:
            return
        _, channels, height, width = shape
        surfaces = -(-channels // LANES)
        native = (1, surfaces, height, width, LANES)
        size = -(-surfaces * -(-height * width * LANES // ALIGN) * ALIGN // 256) * 256
        size = max(size, least)
        self.tensors[name] = Tensor(
            name, INT8, LAYOUT_SURFACES, native, shape, scale, zero, size, self.room, None
        )
        self.room += size

    def _weights(self, name: str, source: Tensor) -> int:
        """Add the constants of a convolution; returns the number of kernels."""
        if name.startswith("mean"):
            sides = [int(n) for n in name.removeprefix("mean").split("x")]
            weights = np.ones((source.shape[1], 1, *sides), np.float32)
        else:
            weights = self._made(name)
        both = packed(weights, source.zero, depthwise=name.startswith("mean"))
        for made, data in zip((name, f"{name} operands"), both, strict=True):
            self.tensors[made] = Tensor(made, 0, 0, (), (), None, 0, len(data), 0, data)
        return len(weights)

    def _made(self, text: str) -> Floats:
        if text == "yw":  # of a deconvolution: the kernel is turned, its first axis is the input's
            turned: Floats = self.constants[text].transpose(1, 0, 2, 3)[..., ::-1, ::-1]
            return turned
        if "+" in text:
            one, other = text.split("+")
            return self.constants[one] + self.constants[other]
        if "*" in text:
            one, other = text.split("*")
            return self.constants[one] * self.constants[other].reshape(-1, 1, 1, 1)
        return self.constants[text]


def _size(commands: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Rows and columns that a task's DPU writes."""
    values = {(target, offset): value for target, offset, value in commands}
    target = DPU.target + WRITE
    height = DPU.DATA_CUBE_HEIGHT.unpack(values[target, DPU.DATA_CUBE_HEIGHT.offset])
    width = DPU.DATA_CUBE_WIDTH.unpack(values[target, DPU.DATA_CUBE_WIDTH.offset])
    return height.HEIGHT, width.WIDTH


def _zero(commands: list[tuple[int, int, int]], source: Tensor) -> int:
    """The zero point of a task's output: what its converter adds, or the input's if it is a copy
    or pooling.
    """
    values = {(target, offset): value for target, offset, value in commands}
    offset, scale = (
        values.get((DPU.target + WRITE, register.offset))
        for register in (DPU.OUT_CVT_OFFSET, DPU.OUT_CVT_SCALE)
    )
    if offset is None or (offset, scale) == (0, 1):
        return source.zero
    return offset - (offset >> 31 << 32)


def packed(weights: Floats, source_zero: int, depthwise: bool = False) -> tuple[bytes, bytes]:
    """The weights of a convolution without biases [kernels, channels, height, width], and its
    operands, as the vendor writes them: every kernel has the scale and zero point of its range.
    """
    kernels, sides = len(weights), (slice(None), None, None, None)
    flat = weights.reshape(kernels, -1)
    low, high = np.minimum(flat.min(1), 0), np.maximum(flat.max(1), 0)
    scale = (high - low) / np.float32(255)
    zero = np.rint(-128 - low / scale).astype(np.int64)
    stored = np.clip(np.rint(weights / scale[sides]) + zero[sides], -128, 127).astype(np.int64)
    bias = -source_zero * (stored - zero[sides]).reshape(kernels, -1).sum(1)
    factors = np.rint(scale / scale.max() * 2**14).astype(np.int64)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    data = pack_weights(stored.transpose(*order), depthwise)
    return data, _operands(bias, -zero, factors, 64 if depthwise else 32)


def _operands(
    bias: NDArray[np.int64], ow: NDArray[np.int64], mul: NDArray[np.int64], whole: int
) -> bytes:
    """Groups of 8 channels; spare groups to a multiple of `whole` channels are zero."""
    out = b""
    for first in range(0, -(-len(bias) // whole) * whole, 8):
        for values, kind in ((bias, "<i4"), (ow, "<i2"), (mul, "<u2")):
            eight = np.zeros(8, kind)
            some = values[first : first + 8]
            eight[: len(some)] = some
            out += eight.tobytes()
    return out


def _step(values: Floats) -> float:
    """The scale of values that are whole multiples of one: neighbours differ by a step."""
    kinds = np.unique(values.astype(np.float64))
    least = float(np.diff(kinds).min())
    width = float(kinds[-1] - kinds[0])
    return width / round(width / least)
