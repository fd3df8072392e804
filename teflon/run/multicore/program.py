"""Programs for several cores: stages, each with one ordinary program for each core."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from teflon.errors import ProgramError
from teflon.ir.serial import type_from_json, type_to_json
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
            "predicted": asdict(self.prediction),
            "note": self.note,
            "stages": [_stage_to_json(stage) for stage in self.stages],
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
        for size in plain["sizes"]:
            programs.append(load(data[at : at + size]))
            at += size
        if at != len(data):
            raise ProgramError(f"program: has {len(data)} bytes, must have {at}")
        return _decode(plain, iter(programs))
    except (struct.error, KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        raise ProgramError(
            f"program: its stages cannot be read, {error} (compile the model again)"
        ) from error


def _decode(plain: Mapping[str, Any], programs: Iterator[Program]) -> MulticoreProgram:
    tensors = tuple(type_from_json(kind) for kind in plain["tensors"])
    stages = []
    for row in plain["stages"]:
        shares = tuple(
            Share(next(programs), _pieces(feeds, tensors), _pieces(yields, tensors))
            for feeds, yields in row["shares"]
        )
        if not shares:
            raise ValueError("a stage has no parts")
        stages.append(Stage(str(row["title"]), str(row["kind"]), shares, int(row["macs"])))
    numbers = range(len(tensors))
    if not stages or not {*plain["reads"], *plain["makes"]} <= set(numbers):
        raise ValueError("there are no stages, or a number names no tensor")
    return MulticoreProgram(
        str(plain["driver"]),
        str(plain["chip"]),
        tensors,
        tuple(map(int, plain["reads"])),
        tuple(map(int, plain["makes"])),
        tuple(stages),
        Prediction(**plain["predicted"]),
        str(plain["note"]),
    )


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    return {
        "title": stage.title,
        "kind": stage.kind,
        "macs": stage.macs,
        "shares": [
            [[[n, *asdict(p).values()] for n, p in pieces] for pieces in (s.feeds, s.yields)]
            for s in stage.shares
        ],
    }


def _pieces(
    rows: Sequence[Sequence[int]], tensors: Sequence[TensorType]
) -> tuple[tuple[int, Piece], ...]:
    found = []
    for number, axis, low, high, skip in rows:
        shape = tensors[number].shape
        if not (0 <= low <= high <= (shape[axis] if shape else 0) and skip >= 0):
            raise ValueError(f"a piece is {low} to {high} of axis {axis} of {list(shape)}")
        found.append((number, Piece(axis, low, high, skip)))
    return tuple(found)
