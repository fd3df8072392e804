"""Facts of the ABACUS: its limits and its commands. Compiler and simulated chip share only this."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Chip:
    """The limits of one chip. Rules may name its fields in braces."""

    name: str
    memory: int  # bytes


ABACUS1 = Chip("abacus1", memory=64 << 20)

ALIGN = 64
STEP = 20
"""Fraction bits of an addition's factors."""


class Opcode(enum.IntEnum):
    """What a command does."""

    CONV = 1
    ADD = 2


class Command(NamedTuple):
    """One command: 24 signed words. Addresses count from the base that a run is started with.

    CONV: int32 sums of (input - zero_a) * (weights - zero_b), weights OHWI, plus bias; times the
    channel's multiplier (table: int32 pairs multiplier, shift), shifted right, rounded half up.
    Outside the image the input is zero_a. ADD: (a - zero_a) * multiplier + (b - zero_b) * shift of
    the first pair, shifted by STEP; `weights` is the address of b. Both add zero_out and clamp.
    """

    opcode: int
    signed: int  # 1: int8, 0: uint8; of everything but bias and table
    source: int
    target: int
    weights: int = 0
    bias: int = 0
    table: int = 0
    images: int = 1
    height: int = 1
    width: int = 1
    channels: int = 1
    out_height: int = 1
    out_width: int = 1
    out_channels: int = 1
    kernel_height: int = 1
    kernel_width: int = 1
    stride_y: int = 1
    stride_x: int = 1
    pad_top: int = 0
    pad_left: int = 0
    zero_a: int = 0
    zero_b: int = 0
    zero_out: int = 0
    clamp: int = 0  # low in the lower 16 bits, high in the upper


WORDS = struct.Struct(f"<{len(Command._fields)}i")
