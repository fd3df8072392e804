"""Calibration data: pictures of a folder, or arrays of .npz and .npy files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teflon.errors import OptionError
from teflon.ir.types import Array
from teflon.quantize import pictures
from teflon.quantize.pictures import Normalization
from teflon.quantize.tensors import Input, Sample, Samples
from teflon.samples.arrays import named_arrays, one_array

_ARRAYS = (".npz", ".npy")


@dataclass(frozen=True)
class Reading:
    """How to read calibration data."""

    count: int | None = 100
    """At most so many samples, evenly spread over what is there; None for all."""
    normalization: Normalization = pictures.PRESETS[pictures.DEFAULT]
    layout: str | None = None
    """NHWC or NCHW; None to find it in the input's shape."""


def read_samples(path: Path, inputs: Sequence[Input], how: Reading) -> Samples:
    """Return the samples of a folder or a file, in the order of the files' names.

    A folder holds pictures (also in its subfolders) or .npz files; .npy is for models with one
    input. Raises OptionError where something is missing, cannot be read or does not fit.
    """
    kind, files = _files(path)
    if kind == "pictures":
        return _pictures(path, files, inputs, how)
    return _Arrays.read(path, files, inputs, how.count)


def _files(path: Path) -> tuple[str, list[Path]]:
    """Return what kind of files a path has, and the files."""
    if not path.exists():
        raise OptionError(f"--calibrate {path}: does not exist, must be a folder or a .npz file")
    if path.is_dir():
        found = [f for f in sorted(path.rglob("*")) if f.is_file() and not _hidden(f, path)]
    else:
        found = [path]
    seen = [f for f in found if f.suffix.lower() in pictures.SUFFIXES]
    arrays = [f for f in found if f.suffix.lower() in _ARRAYS]
    if seen and arrays:
        raise OptionError(
            f"--calibrate {path}: holds pictures ({seen[0].name}) and arrays ({arrays[0].name}),"
            " must hold one kind"
        )
    if not seen and not arrays:
        what = "holds no pictures and no arrays" if path.is_dir() else "is neither"
        known = ", ".join((*pictures.SUFFIXES, *_ARRAYS))
        raise OptionError(f"--calibrate {path}: {what}, must have files of {known}")
    return ("pictures", seen) if seen else ("arrays", arrays)


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _spread(total: int, count: int | None) -> list[int]:
    """Return at most `count` of the numbers below `total`, evenly spread."""
    wanted = total if count is None else min(count, total)
    return [total * i // wanted for i in range(wanted)]


@dataclass(frozen=True)
class _Pictures:
    files: tuple[Path, ...]
    item: Input
    layout: str
    normalization: Normalization
    source: str

    def __len__(self) -> int:
        return len(self.files) // self.item.batch

    def __iter__(self) -> Iterator[Sample]:
        for n in range(len(self)):
            group = self.files[n * self.item.batch : (n + 1) * self.item.batch]
            rows = [pictures.as_array(f, self.item, self.layout, self.normalization) for f in group]
            yield {self.item.name: np.stack(rows)}


def _pictures(path: Path, files: list[Path], inputs: Sequence[Input], how: Reading) -> Samples:
    if len(inputs) != 1:
        raise OptionError(
            f"--calibrate {path}: has pictures, must be .npz files for a model with {len(inputs)}"
            f" inputs ({', '.join(i.name for i in inputs)})"
        )
    item = inputs[0]
    layout = pictures.layout_of(item, how.layout)
    pictures.check(item, layout, how.normalization)
    if len(files) < item.batch:
        raise OptionError(
            f"--calibrate {path}: has {len(files)} pictures, must have at least {item.batch}, the"
            f" batch of input {item.name!r}"
        )
    count = None if how.count is None else how.count * item.batch
    chosen = tuple(files[n] for n in _spread(len(files), count))
    one = "1 picture" if len(chosen) == 1 else f"{len(chosen)} pictures"
    of = f" of {len(files)}" if len(chosen) < len(files) else ""
    source = f"{one}{of} of {path}: {how.normalization}, {layout}"
    return _Pictures(chosen, item, layout, how.normalization, source)


@dataclass(frozen=True)
class _Arrays:
    """Rows of arrays. A file is read when its first row is wanted, and again each time."""

    rows: tuple[tuple[Path, int], ...]
    inputs: tuple[Input, ...]
    source: str

    @classmethod
    def read(
        cls, path: Path, files: Sequence[Path], inputs: Sequence[Input], count: int | None
    ) -> _Arrays:
        """Look through the files, count their rows, choose some."""
        found = [(f, n) for f in files for n in range(_rows(f, _stacked(f, inputs)))]
        chosen = tuple(found[n] for n in _spread(len(found), count))
        of = f" of {len(found)}" if len(chosen) < len(found) else ""
        source = f"{len(chosen)}{of} samples of {path}"
        return cls(chosen, tuple(inputs), source)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        last: Path | None = None
        arrays: Mapping[str, Array] = {}
        for file, row in self.rows:
            if file != last:
                last, arrays = file, _stacked(file, self.inputs)
            yield {name: array[row] for name, array in arrays.items()}


def _rows(file: Path, arrays: Mapping[str, Array]) -> int:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise OptionError(f"{file}: has {told}, must have as many samples of each input")
    count = next(iter(counts.values()))
    if not count:
        raise OptionError(f"{file}: has no samples, must have at least one")
    return count


def _stacked(file: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    """Return an array for each input whose first axis counts samples."""
    return {i.name: _samples(file, i, array) for i, array in _named(file, inputs)}


def _named(file: Path, inputs: Sequence[Input]) -> Iterator[tuple[Input, Array]]:
    """Yield the array of each input. One array needs no name if there is one input."""
    if file.suffix.lower() == ".npy":
        if len(inputs) != 1:
            raise OptionError(
                f"{file}: holds one array, must be .npz for a model with {len(inputs)} inputs"
                f" ({', '.join(i.name for i in inputs)})"
            )
        yield inputs[0], one_array(str(file))
        return
    arrays = named_arrays(str(file))
    if len(inputs) == 1 and len(arrays) == 1:
        yield inputs[0], next(iter(arrays.values()))
        return
    for item in inputs:
        if item.name not in arrays:
            raise OptionError(
                f"{file}: has no array {item.name!r}, must have one for each input of the model"
                f" (it has {', '.join(arrays) or 'none'})"
            )
        yield item, arrays[item.name]


def _samples(file: Path, item: Input, array: Array) -> Array:
    """Return an array as samples: its first axis counts them, or it counts rows of batches."""
    typed = _typed(file, item, array)
    if _fits(array.shape[1:], item.shape) and array.ndim:
        return typed
    if array.ndim and item.shape and _fits(array.shape[1:], item.shape[1:]):
        whole = len(array) // item.batch
        return typed[: whole * item.batch].reshape(whole, item.batch, *array.shape[1:])
    sizes = ", ".join("?" if n is None else str(n) for n in item.shape[1:])
    raise OptionError(
        f"{file}: array for input {item.name!r} is {array.dtype}{list(array.shape)}, must be"
        f" {item.dtype}[samples{', ' if sizes else ''}{sizes}]"
    )


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        w in (None, n) for n, w in zip(shape, wanted, strict=True)
    )


def _typed(file: Path, item: Input, array: Array) -> Array:
    """Return an array in the input's type: floats of any width, integers that fit."""
    what = f"{file}: array for input {item.name!r}"
    kinds = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
    if array.dtype.kind not in kinds.get(item.dtype.kind, item.dtype.kind):
        note = " (the numbers that the model takes)" if item.dtype.kind == "f" else ""
        raise OptionError(f"{what} is {array.dtype}, must be {item.dtype}{note}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise OptionError(f"{what} has numbers that are not finite, must have none")
    typed = array.astype(item.dtype)
    if array.dtype.kind in "iu" and not np.array_equal(typed, array):
        raise OptionError(f"{what} has numbers beyond {item.dtype}, must have none")
    return typed
