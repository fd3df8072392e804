"""Command streams: the words of every operation in order, and where addresses go.

Ref: docs/hardware/etnaviv.md sections 2.5 and 2.6
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml.c (etna_ml_subgraph_invoke)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from teflon_common.registers import Register
from teflon_etnaviv import states
from teflon_etnaviv.states import GL, PA, PS

_LEADING_ZEROS = 8  # fillers that the vendor's driver begins with
_TRAILING_ZEROS = 2
_OPENCL = 2


@dataclass
class Stream:
    """Words of a command stream.

    addresses: (byte offset, buffer, addend) to fill in; the addend's low bits are flags.
    """

    words: list[int] = field(default_factory=list)
    addresses: list[tuple[int, int, int]] = field(default_factory=list)

    def zeros(self, count: int) -> None:
        """Append filler words."""
        self.words += [0] * count

    def write(self, state: Register) -> None:
        """Append one state."""
        self.words += [states.header(state.offset), state.pack()]

    def launch(self, state: type[Register], place: tuple[int, int], low_bits: int) -> None:
        """Append a state whose value is the address of a place: a buffer and a byte offset."""
        self.words.append(states.header(state.offset))
        self.addresses.append((4 * len(self.words), place[0], place[1] + low_bits))
        self.words.append(low_bits)

    def to_bytes(self) -> bytes:
        """Return the words, little endian, without addresses."""
        return struct.pack(f"<{len(self.words)}I", *self.words)


def init_stream() -> bytes:
    """Return what is submitted once per context, before anything else."""
    stream = Stream()
    stream.zeros(_LEADING_ZEROS)
    stream.write(PA.SYSTEM_MODE(PROVOKING_VERTEX_LAST=True, HALF_PIXEL_CENTER=True))
    stream.write(GL.API_MODE(MODE=_OPENCL))
    stream.zeros(_TRAILING_ZEROS)
    return stream.to_bytes()


def begin() -> Stream:
    """Return the beginning of an invocation's stream."""
    stream = Stream()
    stream.zeros(_LEADING_ZEROS)
    return stream


def emit_nn(stream: Stream, descriptor: tuple[int, int]) -> None:
    """Append a launch of the NN cores; `descriptor` is the instruction's place."""
    stream.write(GL.OCB_REMAP_START())
    stream.write(GL.OCB_REMAP_END())
    stream.write(GL.NN_CONFIG(SMALL_BATCH=True))
    stream.launch(PS.NN_INST_ADDR, descriptor, 0)
    stream.write(PS.UNK10A4())


def emit_tp(stream: Stream, descriptors: Sequence[tuple[int, int]], mark: int) -> None:
    """Append the jobs of a TP operation, which run side by side.

    mark: what is written to UNK03950 before every job but the last.
    """
    for number, descriptor in enumerate(descriptors):
        more = number < len(descriptors) - 1
        stream.write(GL.OCB_REMAP_START())
        stream.write(GL.OCB_REMAP_END())
        stream.write(GL.TP_CONFIG())
        stream.write(GL.UNK03950(VALUE=mark if more else 0))
        stream.launch(PS.TP_INST_ADDR, descriptor, int(more))
    stream.write(PS.UNK10A4())


def finish(stream: Stream) -> None:
    """Append the flushes that end an invocation."""
    for _ in range(2):
        stream.write(GL.FLUSH_CACHE(DEPTH=True, COLOR=True, SHADER_L1=True, UNK10=True, UNK11=True))
    stream.zeros(_TRAILING_ZEROS)
