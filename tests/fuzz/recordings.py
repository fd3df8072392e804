"""Mutants of recordings; those that are read are shown, printed and replayed.

python -m tests.fuzz.recordings --count 10000 --seed 1 [--state FILE]
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np

import teflon
from teflon.cli import record
from teflon.errors import DriverUnavailable, OptionError, RecordingError, SimulatorFault
from teflon.ir.types import Array
from teflon.plugins import discover
from teflon.samples.models import resolve
from tests.fuzz.container import change_json
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.values import dumps, pick
from tests.paths import GOLDEN

RIGHT = (RecordingError, SimulatorFault, OptionError, DriverUnavailable)
"""What a damaged recording may raise."""
SMALL = 60_000
"""Bytes of a recording that mutants are made of."""


def seeds() -> list[bytes]:
    """Return recordings of both drivers, ours and, where they are there, Mesa's."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.npz"
        for spec in ("sim:rk3588", "sim:a311d"):
            with teflon.load(resolve("digits_int8"), spec, cache="off", record=path) as model:
                model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))
            found.append(path.read_bytes())
    if GOLDEN is not None:
        for chip in ("rocket", "a311d"):
            files = sorted((GOLDEN / chip).glob("*.npz"), key=lambda file: file.stat().st_size)
            found += [file.read_bytes() for file in files[:40:13] if file.stat().st_size < SMALL]
    return found


def mutate(random: Random, corpus: Sequence[bytes]) -> Mutant:
    """Return a recording with damaged bytes, `meta`, arrays or archive."""
    data, way = pick(random, corpus), random.random()
    if way < 0.3:
        return Mutant("bytes", _bytes(random, data))
    with np.load(io.BytesIO(data)) as file:
        arrays: dict[str, Array] = dict(file)
    meta = json.loads(arrays.pop("meta").tobytes())
    if way < 0.85 or not arrays:
        field = change_json(random, meta)
        return Mutant(f"meta.{field}", _packed(arrays, dumps(meta)))
    return _of_arrays(random, arrays, json.dumps(meta).encode())


def _bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    end = int(random.integers(len(changed))) if random.random() < 0.1 else len(changed)
    return bytes(changed[:end])


def _of_arrays(random: Random, arrays: dict[str, Array], meta: bytes) -> Mutant:
    name = pick(random, list(arrays))
    way = int(random.integers(6))
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = arrays[name].astype(pick(random, ["f4", "?", "<u8", "c8", "S3"]))
    elif way == 2:
        arrays[name] = arrays[name][: int(random.integers(arrays[name].size + 1))]
    elif way == 3:
        arrays[pick(random, ["bo_1_99999999999", "bo_0_0", "stream_1", "after_1_0", "text"])] = (
            arrays.pop(name)
        )
    elif way == 4:
        arrays[name] = arrays[name].reshape(1, -1)
    else:
        return Mutant("header", _packed(arrays, meta, {name: _header(random)}))
    return Mutant(f"arrays.{way}", _packed(arrays, meta))


def _header(random: Random) -> bytes:
    """Return an array's file whose header says more than is there."""
    shape = pick(random, ["(1099511627776,)", "(-1,)", "(1,)*99", "('x',)", "((),)", "(1e9,)"])
    dtype = pick(random, ["|u1", "|O", "<f8", "V0", "('|u1', (9**9,))", "\\x00"])
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    version = bytes([pick(random, [1, 2, 3, 9]), 0])
    size = pick(random, [len(text), 0, 0xFFFF]).to_bytes(2, "little")
    return b"\x93NUMPY" + version + size + text + bytes(64)


def _packed(arrays: Mapping[str, Array], meta: bytes, raw: Mapping[str, bytes] = {}) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {**arrays, "meta": np.frombuffer(meta, np.uint8)}.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", raw.get(name, file.getvalue()))
    return whole.getvalue()


def use(data: bytes, random: Random) -> str:
    """Show, print and replay a recording, by its own driver and by the command."""
    with tempfile.TemporaryDirectory(prefix="teflon-fuzz-") as folder:
        path = Path(folder) / "r.npz"
        path.write_bytes(data)
        ends: list[str] = []
        for recorder in discover().recorders.values():
            for whole in (False, True):
                with suppress(*RIGHT):
                    recorder.show(str(path), whole).encode()
                    ends.append("shown")
            with suppress(*RIGHT):
                outputs: Mapping[str, Any] = recorder.replay(str(path), {})
                ends.append("replayed" if outputs else "shown")
        with redirect_stdout(io.StringIO()), suppress(*RIGHT):
            record.show(path, whole=False)
    return "replayed" if "replayed" in ends else "shown" if ends else "refused"


KINDS = {"recordings": Kind("recordings", seeds, mutate, use, seconds=60.0)}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
