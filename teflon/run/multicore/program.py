"""Programs for several cores: stages, each with one ordinary program for each core."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from teflon.errors import ProgramError
from teflon.ir.schema import (
    Each,
    Field,
    Malformed,
    Number,
    Read,
    Real,
    Scope,
    Table,
    Text,
    shown,
)
from teflon.ir.schema_types import AXES, tensor_type
from teflon.ir.serial import type_to_json
from teflon.ir.types import TensorType
from teflon.pipe import Data, Program
from teflon.run.multicore.parts import Piece

MAGIC = b"TEFLONST"
FORMAT = 1
_HEAD = struct.Struct("<8sIII")  # magic, format, length and CRC-32 of the JSON


@dataclass(frozen=True, eq=False)
class Share:
    """One core's part of a stage.

    `feeds` and `yields` are pairs (number of a tensor, piece of it), one for each input and each
    output of the program.
    """

    program: Program
    feeds: tuple[tuple[int, Piece], ...]
    yields: tuple[tuple[int, Piece], ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """Shares that run at the same time, one for each core."""

    title: str  # its first and last operation
    kind: str  # how it is cut: "rows", "channels", or "whole"
    shares: tuple[Share, ...]
    macs: int = 0  # of the model's operations, without repeated rows


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of a partition by the model of time; 0: unknown."""

    one_core: float = 0.0
    chosen: float = 0.0
    sharing: float = 0.0
    """The time of the chosen stages if all cores share the memory rate of one core."""


@dataclass(frozen=True, eq=False)
class MulticoreProgram(Program):
    """Stages that run one after the other; the host holds the tensors between them."""

    driver: str
    chip: str
    tensors: tuple[TensorType, ...]
    reads: tuple[int, ...]
    """Numbers of the tensors that are the program's inputs."""
    makes: tuple[int, ...]
    """Numbers of the tensors that are the program's outputs."""
    stages: tuple[Stage, ...]
    prediction: Prediction = Prediction()
    note: str = ""  # why the inference is not divided, if it is not

    @cached_property
    def inputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(self.tensors[n] for n in self.reads)

    @cached_property
    def outputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(self.tensors[n] for n in self.makes)

    @property
    def cores(self) -> int:
        """The largest number of cores that work at the same time."""
        return max(len(stage.shares) for stage in self.stages)

    @cached_property
    def statistics(self) -> Mapping[str, int]:
        counts = Counter[str]()
        for stage in self.stages:
            for share in stage.shares:
                counts.update(share.program.statistics)
        own = {
            "stages": len(self.stages),
            "cores": self.cores,
            "repeated_macs": max(0, counts["macs"] - sum(s.macs for s in self.stages)),
            "joined_bytes": sum(self.joined_bytes(stage) for stage in self.stages),
        }
        return {**counts, **own}

    def joined_bytes(self, stage: Stage) -> int:
        """Return the bytes that the host copies to join the results of a stage's cores."""
        if len(stage.shares) == 1:
            return 0
        numbers = {n for share in stage.shares for n, _ in share.yields}
        return sum(self.tensors[n].size_bytes for n in numbers)

    @property
    def remarks(self) -> Sequence[str]:
        return tuple(self._remarks())

    def _remarks(self) -> Iterator[str]:
        p = self.prediction
        if self.cores == 1:
            yield f"1 stage on 1 core: {self.note}"
            return
        stages = "1 stage" if len(self.stages) == 1 else f"{len(self.stages)} stages"
        yield (
            f"{stages} on {self.cores} cores: {p.chosen:.2f} ms predicted"
            f" ({p.sharing:.2f} if cores share one memory rate), on one core {p.one_core:.2f} ms"
        )
        for number, stage in enumerate(self.stages):
            done = sum(share.program.statistics.get("macs", 0) for share in stage.shares)
            twice = f", {100 * (done / stage.macs - 1):.0f} % MACs repeated" if stage.macs else ""
            many = len(stage.shares)
            how = f"{stage.kind} on {many} cores{twice}" if many > 1 else "on 1 core"
            yield f"stage {number}: {how}: {stage.title}"

    def to_bytes(self) -> bytes:
        blobs = [s.program.to_bytes() for stage in self.stages for s in stage.shares]
        plain = {
            "driver": self.driver,
            "chip": self.chip,
            "tensors": [type_to_json(kind) for kind in self.tensors],
            "reads": self.reads,
            "makes": self.makes,
            "predicted": _PREDICTIONS.write_named([self.prediction])[0],
            "note": self.note,
            "stages": _STAGES.write_named([_StageRow.of(stage) for stage in self.stages]),
            "sizes": [len(blob) for blob in blobs],
        }
        text = json.dumps(plain, separators=(",", ":")).encode()
        head = _HEAD.pack(MAGIC, FORMAT, len(text), zlib.crc32(text))
        return b"".join((head, text, *blobs))


def one_stage(program: Program, title: str, macs: int, note: str) -> MulticoreProgram:
    """Return a program as one stage on one core."""
    tensors = (*program.inputs, *program.outputs)
    numbers = tuple(range(len(tensors)))
    reads, makes = numbers[: len(program.inputs)], numbers[len(program.inputs) :]
    pieces = [(n, Piece(0, 0, tensors[n].shape[0] if tensors[n].shape else 0)) for n in numbers]
    share = Share(program, tuple(pieces[: len(reads)]), tuple(pieces[len(reads) :]))
    stage = Stage(title, "whole", (share,), macs)
    return MulticoreProgram(
        program.driver, program.chip, tensors, reads, makes, (stage,), note=note
    )


def is_multicore(data: Data) -> bool:
    """Whether these bytes are a program for several cores, by their magic."""
    return data[: len(MAGIC)] == MAGIC


def from_bytes(data: Data, load: Callable[[Data], Program]) -> MulticoreProgram:
    """Return the program that `to_bytes` wrote; `load` reads the programs of the shares.

    Raises ProgramError if the bytes are damaged, and what `load` raises.
    """
    try:
        magic, form, length, checksum = _HEAD.unpack_from(data)
        text = data[_HEAD.size : _HEAD.size + length]
        if magic != MAGIC or form != FORMAT or zlib.crc32(text) != checksum:
            raise ProgramError(
                f"program: is damaged, or is not a program in stages of format {FORMAT}"
                " (compile the model again)"
            )
        plain = json.loads(bytes(text))
        at, programs = _HEAD.size + length, []
        for size in _list(plain, "sizes", Number(1), {}):
            programs.append(load(data[at : at + size]))
            at += size
        if at != len(data):
            raise ProgramError(f"program: has {len(data)} bytes, must have {at}")
        return _decode(plain, programs)
    except _BROKEN as error:
        raise ProgramError(
            f"program: its stages cannot be read, {error} (compile the model again)"
        ) from error


def _decode(plain: Mapping[str, Any], programs: Sequence[Program]) -> MulticoreProgram:
    tensors = _list(plain, "tensors", Read(_type, type_to_json, "a type"), {})
    scope = {TENSORS: np.array([kind.size_bytes for kind in tensors], np.int64)}
    reads, makes = (_list(plain, name, Number(of=TENSORS), scope) for name in ("reads", "makes"))
    (texts,) = _TEXTS.read([[plain[name] for name in _TEXTS.fields]])
    left = iter(programs)
    stages = [_stage(row, left, scope) for row in _STAGES.read(plain["stages"])]
    if not stages or next(left, None) is not None:
        raise Malformed("there are no stages, or more programs than parts of stages")
    if {(p.driver, p.chip) for p in programs} != {(texts.driver, texts.chip)}:
        raise Malformed(f"its parts are not all for {shown(texts.driver)}, {shown(texts.chip)}")
    (prediction,) = _PREDICTIONS.read([plain["predicted"]])
    program = MulticoreProgram(
        texts.driver, texts.chip, tensors, reads, makes, tuple(stages), prediction, texts.note
    )
    _check_tensors(program)
    return program


def _stage(row: _StageRow, programs: Iterator[Program], scope: Scope) -> Stage:
    """Return a stage with its programs. Raises Malformed."""
    shares = []
    for pieces in row.shares:
        if type(pieces) is not list or len(pieces) != 2:
            raise Malformed(f"a part is {shown(pieces)}, must have inputs and outputs")
        program = next(programs, None)
        if program is None:
            raise Malformed("there are fewer programs than parts of stages")
        feeds, yields = ([(r.number, Piece(*r[1:])) for r in _PIECES.read(rows, scope)]
                         for rows in pieces)  # fmt: skip
        shares.append(Share(program, tuple(feeds), tuple(yields)))
    if not shares:
        raise Malformed("a stage has no parts")
    return Stage(row.title, row.kind, tuple(shares), row.macs)


def _check_tensors(program: MulticoreProgram) -> None:
    """Raise Malformed unless every tensor is there before it is used, and parts fit it."""
    known = set(program.reads)
    for number, stage in enumerate(program.stages):
        for share in stage.shares:
            if not {n for n, _ in share.feeds} <= known:
                raise Malformed(f"stage {number} reads a tensor that nothing has made")
            _check_types(program, share.feeds, share.program.inputs, whole=True)
            _check_types(program, share.yields, share.program.outputs, len(stage.shares) == 1)
        if len(stage.shares) > 1:
            _check_joined(program, stage)
        made = [{n for n, _ in share.yields} for share in stage.shares]
        if any(own != made[0] for own in made):
            raise Malformed(f"parts of stage {number} make different tensors")
        known |= made[0]
    if not set(program.makes) <= known:
        raise Malformed("an output is made by no stage")


def _check_types(
    program: MulticoreProgram, pieces: Sequence[tuple[int, Piece]], types: Sequence[TensorType],
    whole: bool,
) -> None:  # fmt: skip
    """Raise Malformed for a program whose tensors are not these pieces; whole: nothing more."""
    if len(pieces) != len(types):
        raise Malformed(f"a part has {len(pieces)} pieces for {len(types)} tensors")
    for (number, piece), kind in zip(pieces, types, strict=True):
        tensor = program.tensors[number]
        want, have = list(tensor.shape), list(kind.shape)
        axis, length = piece.axis, piece.high - piece.low
        if axis >= max(len(want), 1) or length < 0 or (want and piece.high > want[axis]):
            raise Malformed(f"a piece is {piece.low} to {piece.high} of axis {axis} of {want}")
        if want and (axis or not whole):
            want[axis] = length if whole else max(length + piece.skip, have[axis] if have else 0)
        if want != have or tensor.dtype is not kind.dtype:
            raise Malformed(f"a part's tensor is {kind.dtype.value}{have}, must be"
                            f" {tensor.dtype.value}{want}")  # fmt: skip


def _check_joined(program: MulticoreProgram, stage: Stage) -> None:
    """Raise Malformed if parts leave something of a tensor out."""
    found: dict[int, list[Piece]] = {}
    for share in stage.shares:
        for number, piece in share.yields:
            found.setdefault(number, []).append(piece)
    for number, pieces in found.items():
        shape, end = program.tensors[number].shape, 0
        for piece in sorted(pieces, key=lambda piece: piece.low):
            end = max(end, piece.high) if piece.low <= end else end
        if not shape or {p.axis for p in pieces} != {pieces[0].axis} or end < shape[pieces[0].axis]:
            raise Malformed(f"parts do not make all of tensor {number}")


def _list(plain: Any, name: str, field: Field, scope: Scope) -> tuple[Any, ...]:
    """Return a list of alike values in JSON. Raises Malformed."""
    rows = plain[name]
    if type(rows) is not list:
        raise Malformed(f"{name} are {shown(rows)}, must be a list")
    table = Table(name, lambda value: value, value=field)
    return tuple(table.read([[value] for value in rows], scope))


def _type(plain: Any) -> TensorType:
    if type(plain) is not list or not 3 <= len(plain) <= 4:
        raise Malformed(f"is {shown(plain)}, must be type, shape and quantization")
    return tensor_type(*plain)


class _StageRow(NamedTuple):
    """A stage without its programs."""

    title: str
    kind: str
    macs: int
    shares: tuple[Any, ...]

    @classmethod
    def of(cls, stage: Stage) -> _StageRow:
        shares = [[_rows(share.feeds), _rows(share.yields)] for share in stage.shares]
        return cls(stage.title, stage.kind, stage.macs, tuple(shares))


class _PieceRow(NamedTuple):
    number: int
    axis: int
    low: int
    high: int
    skip: int


def _rows(pieces: Sequence[tuple[int, Piece]]) -> list[list[int]]:
    return _PIECES.write([_PieceRow(number, *astuple(piece)) for number, piece in pieces])


class _Texts(NamedTuple):
    driver: str
    chip: str
    note: str


TENSORS = "tensors"
"""Scope of pieces."""
_TEXTS = Table("header", _Texts, driver=Text(), chip=Text(), note=Text())
_STAGES = Table(
    "stage",
    _StageRow,
    title=Text(),
    kind=Text(("rows", "channels", "whole")),
    macs=Number(),
    shares=Each(Read(lambda rows: rows, lambda rows: rows, "a part")),
)
_PIECES = Table(
    "piece",
    _PieceRow,
    number=Number(of=TENSORS),
    axis=Number(0, AXES),
    low=Number(),
    high=Number(),
    skip=Number(),
)
_TIME = Real(0, 1e15)
_PREDICTIONS = Table("prediction", Prediction, one_core=_TIME, chosen=_TIME, sharing=_TIME)
_BROKEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
           struct.error)  # fmt: skip
