"""The comparison sees every difference: recordings of our own runs, damaged word by word."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.samples import models
from teflon_common import recording
from teflon_common.recording import Recording
from tests.upstream.compare import DATA, differences

CHIPS = ("rk3588", "a311d")


@functools.cache
def recorded(chip: str) -> Recording:
    """The digits classifier."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        with teflon.load(models.resolve("digits_int8"), f"sim:{chip}", record=str(path)) as npu:
            npu(np.zeros(npu.graph.inputs[0].shape, np.int8))
        return recording.read(path)


def changed(chip: str) -> Recording:
    found = recorded(chip)
    return Recording(copy.deepcopy(found.meta), {k: v.copy() for k, v in found.arrays.items()})


def roles(made: Recording, key: str) -> set[str]:
    handle = int(key.split("_")[1])
    return {role for bo in made.meta["bos"] if bo["handle"] == handle for role in bo["roles"]}


@pytest.mark.parametrize("chip", CHIPS)
def test_a_recording_equals_itself(chip: str) -> None:
    assert differences(recorded(chip), changed(chip)) == []


@pytest.mark.parametrize("chip", CHIPS)
def test_every_array_counts(chip: str) -> None:
    """One bit of the last byte that is not padding, in each buffer and stream that a chip reads."""
    count = 0
    for key, content in recorded(chip).arrays.items():
        made = changed(chip)
        used = np.flatnonzero(content)
        if not key.startswith(("bo_", "stream_")) or not used.size:
            continue
        if key.startswith("bo_") and "output" in roles(made, key):
            continue
        if key.startswith("bo_") and not roles(made, key) - DATA and int(key.split("_")[2]) > 1:
            continue
        made.arrays[key][used[-1]] ^= 0x40
        assert differences(recorded(chip), made), key
        unstable = {key: [int(used[-1]) & ~3]}
        given = Recording({**recorded(chip).meta, "unstable": unstable}, recorded(chip).arrays)
        assert differences(given, made) == [], key
        count += 1
    assert count >= 4


def resized(made: Recording) -> None:
    entry = next(e for e in made.log if "size" in e and "handle" in e)
    entry["size"] += 4096


def dropped(made: Recording) -> None:
    made.log.remove(next(e for e in made.log if e["ioctl"] in ("PREP_BO", "GEM_CPU_PREP")))


def added(made: Recording) -> None:
    made.log.append(next(e for e in made.log if "size" in e and "handle" in e))


def redirected(made: Recording) -> None:
    made.meta["relocs"][0][3] += 1


def relisted(made: Recording) -> None:
    entry = made.submits[-1]
    if "jobs" in entry:
        entry["jobs"][0]["out"] = entry["jobs"][0]["in"]
    else:
        entry["bos"][0][1] ^= 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("damage", [resized, dropped, added, redirected, relisted])
def test_every_request_counts(chip: str, damage: Callable[[Any], None]) -> None:
    made = changed(chip)
    damage(made)
    assert len(differences(recorded(chip), made)) == 1
