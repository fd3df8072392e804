"""What the NN cores find in a coefficient buffer.

Ref: docs/hardware/etnaviv.md sections 7.1, 7.2, 7.4, 7.5, 8.2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.simulator import _units

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_SIX_MIN_CHANNELS = 8  # 1x1 kernels of layers with more outputs come in groups of six channels


@dataclass(frozen=True)
class Kernels:
    """Decoded kernels: weights [kernel, plane, tap], taps row by row; biases; output channels.

    Where every kernel has weights in at most one plane, and there are several, `plane` names it
    and weights are [kernel, 1, tap]. `addend` holds the second plane's taps of a V7 addition.
    `used_bytes` is what SRAM caching would have to hold: the largest stream times the cores, on
    V8 everything. `stored_bytes` is how far the buffer was read.
    """

    weights: U8
    bias: I64
    channel: I64
    used_bytes: int
    stored_bytes: int
    addend: int | None = None
    plane: I64 | None = None


def is_addition(i: NNInstruction) -> bool:
    """Whether a V7 instruction has the shape that additions have."""
    shape = (i.kernel_xy_size, i.kernel_y_size, i.kernel_z_size, i.out_image_z_size)
    return shape == (2, 2, 2, 1) and i.coef_zero_point == 0


def _covers_input(i: NNInstruction) -> bool:
    """Whether a kernel of one plane is the whole image: a fully connected layer."""
    covers = (i.kernel_xy_size, i.kernel_y_size) == (i.in_image_x_size, i.in_image_y_size)
    alone = (i.kernel_z_size, i.out_image_x_size, i.out_image_y_size) == (1, 1, 1)
    return covers and alone


def tap_places(i: NNInstruction) -> npt.NDArray[np.uint16]:
    """Return the tap number (row by row) of each weight of a plane, in stream order.

    Ref: section 7.2. The MADs take two rows of three columns; whether they do so for every kernel
    is inferred from upstream's CI results. Kernels of one plane that cover their image
    come row by row: the only reading by which upstream's small FC layers are right.
    """
    columns, rows = i.kernel_xy_size, i.kernel_y_size
    if _covers_input(i):
        return np.arange(rows * columns, dtype=np.uint16)
    places = []
    for top in range(0, rows, 2):
        pair = [r for r in (top, top + 1) if r < rows]
        for left, right in ((0, min(columns, 3)), (3, columns)):
            for row in pair:
                places += list(range(row * columns + left, row * columns + right))
    return np.array(places, np.uint16)


def read(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Kernels:
    """Return the kernels that an instruction's coefficient buffer holds.

    Raises SimulatorFault for a stream that does not fit the instruction.
    """
    reader = _read_v8 if chip.huffman else _read_v7
    return reader(i, chip, memory, where)


@dataclass(frozen=True)
class _Streams:
    """The streams of a V7 buffer's cores, with what is common to them."""

    views: list[U8]
    names: list[str]
    per_core: int
    planes: int
    taps: int
    i: NNInstruction

    def decode(self, compact: bool) -> tuple[U8, npt.NDArray[np.uint32], I64 | None] | None:
        """Return weights, words [kernel, 2] and planes; None where a kernel needs two planes."""
        i, cores, kept = self.i, len(self.views), 1 if compact else self.planes
        weights = np.full((cores, self.per_core, kept, self.taps), i.coef_zero_point, np.uint8)
        words = np.empty((cores, self.per_core, 2), np.uint32)
        only = np.full((cores, self.per_core), -1, np.int32)
        places = tap_places(i)
        by_six = self.taps == 1 and i.out_image_z_size > _SIX_MIN_CHANNELS
        for core, stream in enumerate(self.views):
            try:
                used = _units.v7_decode(
                    stream, places, weights[core], words[core], self.per_core, self.planes,
                    self.taps, i.kernels_per_core, by_six, i.coef_zero_point,
                    *([only[core]] if compact else []),
                )  # fmt: skip
            except ValueError as error:
                raise SimulatorFault(f"{self.names[core]}: {error}") from error
            if not used:
                return None
        plane = only.reshape(-1).clip(0).astype(np.int64) if compact else None
        return weights.reshape(-1, kept, self.taps), words.reshape(-1, 2), plane


def _v7_streams(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> list[int]:
    """Return the size of each core's stream."""
    head = -(-4 * chip.nn_core_count // 64) * 64
    table = memory.view(i.kernel_address << 6, head, f"{where}: table of stream sizes").view("<u4")
    cores = min(i.out_image_z_size, chip.nn_core_count)
    sizes = [int(n) for n in table]
    if any(n % 64 or not n for n in sizes[:cores]) or any(sizes[cores:]):
        raise SimulatorFault(
            f"{where}: stream sizes are {sizes}, must be multiples of 64 for {cores} cores"
        )
    return sizes[:cores]


def _read_v7(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Kernels:
    sizes = _v7_streams(i, chip, memory, where)
    cores = len(sizes)
    addition = is_addition(i)
    head = -(-4 * chip.nn_core_count // 64) * 64
    names = [f"{where}: stream of core {core}" for core in range(cores)]
    starts = [(i.kernel_address << 6) + head + sum(sizes[:core]) for core in range(cores)]
    streams = _Streams(
        [memory.view(*place) for place in zip(starts, sizes, names, strict=True)], names,
        per_core=-(-i.out_image_z_size // cores), planes=1 if addition else i.kernel_z_size,
        taps=i.kernel_xy_size * i.kernel_y_size, i=i,
    )  # fmt: skip
    compact = streams.planes > 1 and streams.taps > 1
    decoded = (streams.decode(True) if compact else None) or streams.decode(False)
    assert decoded is not None
    weights, words, plane = decoded
    plane_bytes = i.out_image_x_stride * i.out_image_y_stride
    last = words[:, 1].astype(np.int64)
    if not plane_bytes:
        raise SimulatorFault(f"{where}: a plane of its output has no bytes, must have some")
    if not addition and (last % plane_bytes).any():
        raise SimulatorFault(
            f"{where}: output offsets {last[last % plane_bytes != 0][:4].tolist()}, must be"
            f" multiples of a plane's {plane_bytes} bytes"
        )
    return Kernels(
        weights=weights,
        bias=words[:, 0].astype(np.int32).astype(np.int64),
        channel=np.zeros(1, np.int64) if addition else last // plane_bytes,
        used_bytes=max(sizes) * cores,
        stored_bytes=head + sum(sizes),
        addend=int(last[0]) if addition else None,
        plane=plane,
    )


_V8_HEAD = 64
_V8_VERSION = 0x10
_V8_PLAIN = (0x10, 0x04, 0x00, 0x01, 0x00, 0x01)  # section 1.3, S905D3


def _v8_lengths(head: U8, where: str, plain: bool) -> U8:
    """Check the header and return the bit length of each symbol."""
    begins = _V8_PLAIN if plain else (_V8_VERSION,)
    rest = head[len(begins) : 20]
    if tuple(head[: len(begins)]) != begins or rest.any() or head[24:28].any():
        raise SimulatorFault(
            f"{where}: coefficient header is {bytes(head[:28]).hex()}, must begin with"
            f" {bytes(begins).hex()}, and have no run lengths, precode, wide numbers, average bias"
        )
    symbols = int.from_bytes(bytes(head[20:24]), "little")
    lengths = np.array([symbols >> 4 * n & 0xF for n in range(8)], np.uint8)
    if sorted(lengths.tolist()) != list(range(8)):
        raise SimulatorFault(f"{where}: symbol map is #{symbols:08x}, must name 0 to 7 once each")
    return lengths


def _read_v8(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Kernels:
    address = i.kernel_address << 6
    head = memory.view(address, _V8_HEAD, f"{where}: coefficient header")
    lengths = _v8_lengths(head, where, chip.plain_codes)
    kernels = i.out_image_z_size
    cores = min(kernels, chip.nn_core_count)
    bits = [int(n) for n in head[28:].view("<u4")[:cores]]
    planes = 1 if i.depthwise else i.kernel_z_size
    taps = i.kernel_xy_size * i.kernel_y_size
    weights = np.zeros((kernels, planes * taps), np.uint8)
    seen = np.zeros(kernels, bool)
    at = address + _V8_HEAD
    for core, size in enumerate(bits):
        name = f"{where}: stream of core {core}"
        padded = -(-size // 512) * 64
        stream = memory.view(at, padded, name)
        groups = _v8_channels(i, chip, core)
        block, slot = _v8_block(i)
        blocks = -(-planes * taps // block)
        count = 2 + sum(len(g) for g in groups) * blocks * slot
        try:
            values = np.frombuffer(_units.v8_decode(stream, lengths, size, count), np.uint8)
        except ValueError as error:
            raise SimulatorFault(f"{name}: {error}") from error
        _v8_place(values, groups, (blocks, block, slot), weights, seen, name)
        at += padded
    if not seen.all():
        raise SimulatorFault(f"{where}: no core has kernel {int(np.argmin(seen))}")
    bias = memory.view(at, 4 * kernels, f"{where}: biases")
    zero = 0 if chip.plain_codes else i.coef_zero_point
    return Kernels(
        weights=(weights + np.uint8(zero)).reshape(kernels, planes, taps),
        bias=bias.copy().view("<i4").astype(np.int64),
        channel=np.arange(kernels),
        used_bytes=at + 4 * kernels - address,
        stored_bytes=at + 4 * kernels - address,
        plane=np.arange(kernels) if i.depthwise else None,
    )


def _v8_block(i: NNInstruction) -> tuple[int, int]:
    """Return (weights that a kernel contributes at a time, places that they take)."""
    block = 9
    if i.depthwise:
        block = max(block, i.kernel_xy_size * i.kernel_y_size)
    return block, -(-block // 9) * 9


def _v8_channels(i: NNInstruction, chip: Chip, core: int) -> list[list[int]]:
    """Return the channels that a core computes, one list for each superblock."""
    total, all_cores = i.out_image_z_size, chip.nn_core_count
    cores = min(total, all_cores)
    groups: list[list[int]] = []
    start = 0  # first channel of the superblock
    while start < total:
        left = total - start
        whole = left > cores * i.kernels_per_core
        shares = [
            i.kernels_per_core if whole else left // cores + (c < left % cores)
            for c in range(cores)
        ]
        if i.depthwise:
            groups.append([
                _v8_interleaved(start + cores - 1 - core + k * all_cores, total, all_cores)
                for k in range(shares[core])
            ])  # fmt: skip
        else:
            first = start + sum(shares[:core])
            groups.append(list(range(first, first + shares[core])))
        start += sum(shares)
    return groups


def _v8_interleaved(channel: int, total: int, cores: int) -> int:
    """Return a depthwise channel; those of the incomplete last round are numbered from its end."""
    rest = total % cores
    return channel - (cores - rest) if total > 1 and channel >= total - rest and rest else channel


def _v8_place(
    values: U8,
    groups: list[list[int]],
    shape: tuple[int, int, int],
    weights: U8,
    seen: npt.NDArray[np.bool_],
    name: str,
) -> None:
    """Put one core's values where its kernels' weights belong."""
    expected = sum(len(g) for g in groups)
    count = int(values[0]) | int(values[1]) << 8
    if count != expected:
        raise SimulatorFault(f"{name}: has {count} kernels, must have {expected}")
    blocks, block, slot = shape
    at = 2
    for group in groups:
        size = len(group) * blocks * slot
        part = values[at : at + size].reshape(blocks, len(group), slot)[:, :, :block]
        at += size
        if not group:
            continue
        if min(group) < 0 or max(group) >= len(seen) or seen[group].any():
            raise SimulatorFault(f"{name}: kernels {group} are outside of the layer or come twice")
        seen[group] = True
        lines = part.transpose(1, 0, 2).reshape(len(group), -1)
        weights[group] = lines[:, : weights.shape[1]]
