"""Coefficient buffers of V8 NN cores: one Huffman coded stream for each core, then the biases.

Ref: docs/hardware/etnaviv.md sections 7.4 and 7.5
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn_v8.c
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from teflon.errors import EncodingError
from teflon_etnaviv import _coefs
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn.coding import Coefficients, LayerCoding
from teflon_etnaviv.nn.layer import I32, U8, Layer
from teflon_etnaviv.rounding import align

_HEADER_BYTES = 64
_CORES_MAX = (_HEADER_BYTES - 28) // 4
_VERSION_BYTE = 0x10  # version 1 in bits 7:4, no precode, neither 16-bit nor float
PLAIN_HEAD = bytes.fromhex("100400010001")
"""First bytes of the header that the S905D3 is said to want; the rest of its table is not known."""
_BLOCK = 9  # coefficients that one kernel contributes before the next one's turn
_COST = (2, 2, 3, 3, 3, 4, 5, 5)  # bits of a symbol beyond the payload

_EXCHANGES = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5), (6, 7),
    (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip
"""Mesa's sorting network; it is kept because it decides between equal counts."""


def bit_lengths(of_minus_one: int) -> npt.NDArray[np.intp]:
    """Return the bit length of each byte value, sign folded; -1 has the length that is given."""
    values = np.arange(256)
    magnitude = np.where(values > 127, values ^ 0xFF, values)
    lengths = np.array([int(m).bit_length() for m in magnitude], np.intp)
    lengths[0xFF] = of_minus_one
    return lengths


def symbol_map(data: Sequence[U8], lengths: npt.NDArray[np.intp]) -> list[int]:
    """Return the bit length that each symbol stands for, the most frequent ones first.

    lengths: what each byte value of the data counts as.
    """
    counts = np.zeros(256, np.int64)
    for part in data:
        counts += np.frombuffer(_coefs.histogram(part), np.uint64).astype(np.int64)
    of_length = np.bincount(lengths, weights=counts, minlength=8)
    chosen = list(range(8))
    for a, b in _EXCHANGES:
        if of_length[chosen[a]] < of_length[chosen[b]]:
            chosen[a], chosen[b] = chosen[b], chosen[a]
    return chosen


def corrected_bias(layer: Layer) -> I32:
    """Return bias + sum(w - zero) * (128 - in_zero): inputs are centred on 128; int32 wraps."""
    coded = _centred(layer).reshape(layer.out_channels, -1)
    total = coded.sum(axis=1, dtype=np.int64)
    bias = layer.bias.astype(np.int64) + total * (128 - layer.in_zero)
    wrapped: I32 = bias.astype(np.uint32).view(np.int32)
    return wrapped


def _centred(layer: Layer) -> npt.NDArray[np.int16]:
    """Return w - zero point as signed numbers."""
    data = layer.weights.data
    raw = (data ^ 0x80 if layer.weights.signed else data).astype(np.int16)
    return raw - np.int16(layer.weights.zero)


def _coded(layer: Layer, chip: Chip) -> U8:
    """Return [OC, weights of a kernel]: (w - zero point) mod 256, or w as an unsigned byte."""
    data = layer.weights.data
    zero = 0 if chip.plain_codes else layer.weights.zero
    shift = (zero + (0x80 if layer.weights.signed else 0)) & 0xFF
    return np.subtract(data, shift, dtype=np.uint8).reshape(layer.out_channels, -1)


def _depthwise_channel(layer: Layer, cores: int, core: int, base: int, k: int, n: int) -> int:
    """Return Mesa's channel of kernel k of a core; n is the chip's number of cores."""
    channels = layer.out_channels
    channel = cores - 1 - core + base + k * n
    if channels > 1 and channel >= channels - channels % n:
        channel -= n - channels % n
    return channel


def channels_of_cores(layer: Layer, chip: Chip, superblocks: int) -> list[list[list[int]]]:
    """Return the channel numbers [core][superblock][kernel] in stream order.

    Raises EncodingError for a depthwise layer with fewer channels than cores, where the order that
    the hardware expects is not known (Mesa's formula reads outside of its array, B4).
    """
    channels, n = layer.out_channels, chip.nn_core_count
    if layer.depthwise and 1 < channels < n:
        raise EncodingError(
            f"{channels} depthwise channels, must be 1 or at least {n}", where=layer.title
        )
    cores = min(channels, n)
    full = -(-channels // (n * superblocks))
    result: list[list[list[int]]] = [[] for _ in range(cores)]
    for block in range(superblocks):
        base = block * full * cores
        rest = channels - cores * (superblocks - 1) * full
        last = block == superblocks - 1
        at = base
        for core in range(cores):
            count = rest // cores + (core < rest % cores) if last else full
            if layer.depthwise:
                kernels = [_depthwise_channel(layer, cores, core, base, k, n) for k in range(count)]
            else:
                kernels = list(range(at, at + count))
            at += count
            result[core].append(kernels)
    return result


def core_values(layer: Layer, coded: U8, blocks: list[list[int]]) -> U8:
    """Return one core's values before entropy coding: the kernel count, then its superblocks."""
    size = max(layer.taps, _BLOCK) if layer.depthwise else _BLOCK
    slot = align(size, _BLOCK)
    total = sum(len(kernels) for kernels in blocks)
    parts = [np.array([total & 0xFF, total >> 8], np.uint8)]
    weights = coded.shape[1]
    count = -(-weights // size)
    for kernels in blocks:
        padded = np.zeros((len(kernels), count * size), np.uint8)
        padded[:, :weights] = coded[kernels]
        cut = padded.reshape(len(kernels), count, size).transpose(1, 0, 2)
        if slot != size:
            wide = np.zeros((count, len(kernels), slot), np.uint8)
            wide[:, :, :size] = cut
            cut = wide
        parts.append(np.ascontiguousarray(cut).reshape(-1))
    return np.concatenate(parts)


def encode(layer: Layer, chip: Chip, superblocks: int, coding: LayerCoding) -> Coefficients:
    """Return the coefficient buffer of a layer.

    Raises EncodingError for what the header or the channel order cannot express.
    """
    if chip.nn_core_count > _CORES_MAX:
        raise EncodingError(
            f"{chip.nn_core_count} NN cores, must be at most {_CORES_MAX} (the header has no room"
            " for more)",
            where=layer.title,
        )
    cores = min(layer.out_channels, chip.nn_core_count)
    coded = _coded(layer, chip)
    values = [
        core_values(layer, coded, blocks) for blocks in channels_of_cores(layer, chip, superblocks)
    ]
    lengths = coding.symbol_map(layer, values)
    symbols = bytes(lengths.index(length) for length in range(8))
    streams = [_coefs.v8_stream(part, symbols) for part in values]
    header = np.zeros(_HEADER_BYTES // 4, np.uint32)
    header[0] = _VERSION_BYTE
    if chip.plain_codes:
        header[:2] = np.frombuffer(PLAIN_HEAD.ljust(8, b"\0"), "<u4")
    header[5] = sum(length << (4 * i) for i, length in enumerate(lengths))
    header[7 : 7 + cores] = [bits for _, bits in streams]
    padded = [stream.ljust(align(len(stream), 64), b"\0") for stream, _ in streams]
    data = header.tobytes() + b"".join(padded) + corrected_bias(layer).tobytes()
    per_core = -(-layer.out_channels // cores)
    worst = 64 + cores * 2 * align(per_core * (layer.kernel_weights + 8), 64) + 64
    return Coefficients(data, max(worst, len(data)), len(data))
