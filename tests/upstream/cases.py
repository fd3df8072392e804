"""The recorded models on virtual boards: what Mesa's delegate does, and whether it is right."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from teflon import plugins
from teflon.ir.types import Array
from teflon_common import recording
from teflon_common.recording import Recording
from teflon_common.recording_tensors import seeded_inputs
from tests.oracle import Oracle
from tests.paths import GOLDEN, MODELS, ROOT
from tests.recorded import expected_failures, model_path
from tests.upstream.client import Client, Run
from tests.upstream.compare import differences
from tests.upstream.sysroot import Sysroot, bring

CHIPS = ("rk3588", "a311d", "s905d3", "imx8mp")
FAILS = {
    "rk3588": "drivers/rocket/ci/rocket-rk3588-recordings-fails.txt",
    **{chip: f"drivers/etnaviv/ci/etnaviv-{chip}-recordings-fails.txt" for chip in CHIPS[1:]},
}
"""What the replay of the recordings gets wrong, each with its cause."""

WHOLE = ("mobilenet_v1_1.0_224_quant", "ssdlite_mobiledet_coco_qat_postprocess")
"""Networks: a step that a layer is off grows on the way, so their layers are judged one by one."""
NAMES = sorted(p.stem for p in (GOLDEN / "a311d").glob("*.npz")) if GOLDEN and MODELS else []

BY_CHANCE = ("B2", "one-to-one")
"""Causes in what memory happens to hold: with them a model can also come out right."""
UNWRITTEN = "B2"
"""The cause of additions whose recording has words that Mesa built from memory it never wrote."""


@functools.cache
def listed(chip: str) -> dict[str, tuple[str, ...]]:
    """Recording -> the causes why its operations are not TFLite's."""
    found: dict[str, tuple[str, ...]] = {}
    for line in expected_failures(ROOT / FAILS[chip]):
        operation, cause = line.split()[:2]
        name = operation.partition("@")[0]
        found[name] = (*found.get(name, ()), cause)
    return found


def given_path(chip: str, name: str) -> Path:
    """The recording of what Mesa submitted for a model."""
    assert GOLDEN is not None
    return GOLDEN / ("rocket" if chip == "rk3588" else chip) / f"{name}.npz"


@functools.lru_cache(maxsize=4)
def reference(name: str) -> dict[int, Array]:
    """Every tensor of a model, for the inputs that it was recorded with."""
    oracle = Oracle(model_path(name), preserve=True)
    oracle.run(list(seeded_inputs(recording.read(given_path(CHIPS[0], name))).values()))
    return oracle.tensors()


def replayed(made: Recording) -> dict[str, tuple[Array, Array]]:
    """Run a recording on the simulator, without a board.

    Return what each buffer held when the program read it: (in the replay, when recorded).
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        made.save(path)
        outputs = plugins.discover().recorders[made.driver].replay(str(path), {})
    return {key: (a, made.arrays[key]) for key, a in outputs.items() if key in made.arrays}


@dataclass
class Case:
    """A model on a chip: its run, and the recording of an earlier one."""

    chip: str
    name: str
    mesa: str
    """The version that ran, without the number of the package."""
    run: Run
    given: Recording
    expected: Mapping[int, Array]
    causes: tuple[str, ...] = field(init=False)
    """Why it may be wrong."""

    def __post_init__(self) -> None:
        adds = any(op["name"] == "ADD" for op in self.given.meta["ops"])
        unwritten = (UNWRITTEN,) if adds and self.given.meta["unstable"] else ()
        self.causes = listed(self.chip).get(self.name, ()) or unwritten

    @property
    def taken(self) -> int:
        """How many operations Mesa took for the NPU."""
        return sum(self.run.nodes)

    @property
    def difference(self) -> int | None:
        """The largest difference to the reference kernels in steps; None without outputs."""
        steps = [
            int(np.abs(have.astype(np.int64) - self.expected[index].astype(np.int64)).max())
            for index, have in self.run.outputs.items()
            if have.dtype.kind in "iu"
        ]
        return max(steps, default=None)

    @property
    def verdict(self) -> str:
        """What became of it, in a few words."""
        if self.run.crash:
            return f"Mesa crashes ({self.run.crash})"
        if self.difference is not None and self.difference <= 1:
            return "right" if self.taken else "on the CPU"
        if self.name in WHOLE:
            return "as replayed"
        return f"known: {', '.join(dict.fromkeys(self.causes))}" if self.causes else "WRONG"

    @property
    def same_mesa(self) -> bool:
        """Whether the recording is of this version: only then both must be equal."""
        return self.mesa == str(self.given.meta["mesa"]).partition("-")[0]

    def problems(self) -> list[str]:
        """Return what neither the recording nor the list of known causes explains."""
        found = self._other_than_recorded() if self.same_mesa else []
        if self.run.crash:
            return found
        return found + (self._other_than_replayed() if self.name in WHOLE else self._results())

    def _other_than_recorded(self) -> list[str]:
        found = []
        status = self.given.meta["status"]
        if (self.run.crash.split()[:1] or [""]) != [status.get("signal", "")]:
            found.append(f"ended with {self.run.crash or 'success'}, must with {status}")
        if self.run.nodes != [node["supported"] for node in self.given.meta["teflon_nodes"]]:
            found.append(f"Mesa takes {self.run.nodes}, must take what it took when recorded")
        if self.run.recording is not None:
            found += [f"recording: {what}" for what in differences(self.given, self.run.recording)]
        elif self.given.submits:
            found.append("nothing was submitted, must be what was recorded")
        return found

    def _other_than_replayed(self) -> list[str]:
        pairs = replayed(self.run.recording) if self.run.recording is not None else {}
        if not pairs:
            return ["the recording has no results"]
        wrong = [name for name, pair in pairs.items() if not np.array_equal(*pair)]
        return [f"the replay gives another {name}" for name in wrong]

    def _results(self) -> list[str]:
        if self.difference is None or self.difference > 1:
            return [] if self.causes else [f"differs by {self.difference}, at most 1 step is right"]
        # the list judges each operation of a recording: in a chain a later one can hide an error
        hidden = len(self.run.nodes) > 1 or set(self.causes) <= set(BY_CHANCE)
        known = self.same_mesa and self.causes and not hidden
        return ["comes out right: take its line from the list"] if known else []


class Boards:
    """A client on a board for each chip, started when it is first used."""

    def __init__(self, sysroot: Sysroot) -> None:
        self.sysroot = sysroot
        self._clients: dict[str, Client] = {}
        self._open = contextlib.ExitStack()

    @classmethod
    def brought(cls) -> Boards:
        """Return boards for the cached system. Raises Missing."""
        return cls(bring())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def client(self, chip: str) -> Client:
        """Return the chip's client."""
        if chip not in self._clients:
            self._clients[chip] = self._open.enter_context(Client(self.sysroot, chip))
        return self._clients[chip]

    def case(self, chip: str, name: str) -> Case:
        """Run a recorded model with the inputs that it was recorded with."""
        given = recording.read(given_path(chip, name))
        made = seeded_inputs(given)
        inputs = {tensor["index"]: made[tensor["name"]] for tensor in given.meta["inputs"]}
        run = self.client(chip).run(model_path(name), inputs)
        return Case(chip, name, self.sysroot.mesa, run, given, reference(name))
