"""Mesa's newest packaged delegate, unmodified, on virtual boards.

It is brought at test time, so it runs only where it is asked for: `bash ci/upstream.sh`, or
TEFLON_UPSTREAM=1. With TEFLON_REQUIRE_UPSTREAM=1 what cannot be had is a failure, not a skip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from teflon.compile.source import read_graph
from teflon.ir.types import Array
from teflon.samples.detection import detections
from teflon.samples.images import read_image, to_input
from teflon_common import recording
from teflon_common.recording_tensors import seeded_inputs
from tests.oracle import Oracle, needs_oracle
from tests.paths import needs_shared
from tests.recorded import model_path
from tests.upstream import sysroot
from tests.upstream.cases import CHIPS, NAMES, WHOLE, Boards, Case
from tests.upstream.client import GUEST
from tests.upstream.compare import differences
from tests.upstream.sysroot import Missing

ASKED, REQUIRED = (
    os.environ.get(name, "") not in ("", "0")
    for name in ("TEFLON_UPSTREAM", "TEFLON_REQUIRE_UPSTREAM")
)
if not ASKED and not REQUIRED:
    pytest.skip(
        "Mesa's delegate is downloaded for these tests: run `bash ci/upstream.sh` or set"
        " TEFLON_UPSTREAM=1",
        allow_module_level=True,
    )

pytestmark = [needs_shared, needs_oracle]

every_chip = pytest.mark.parametrize("chip", CHIPS)


@pytest.fixture(scope="session")
def boards() -> Iterator[Boards]:
    try:
        found = Boards.brought()
    except Missing as missing:
        if REQUIRED:
            pytest.fail(f"upstream: {missing}", pytrace=False)
        pytest.skip(f"upstream: {missing}")
    with found:
        yield found


def judge(case: Case) -> None:
    """Hold a run to its recording. A Mesa that nobody has recorded is told, not judged."""
    problems = case.problems()
    if problems and not case.same_mesa:
        pytest.skip(f"a Mesa without recordings: {'; '.join(problems)}")
    assert problems == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
@every_chip
def test_model(boards: Boards, chip: str, name: str) -> None:
    """It ends as recorded, submits what was recorded, and computes what the replay computes."""
    judge(boards.case(chip, name))


@pytest.mark.parametrize("name", WHOLE)
@every_chip
def test_network(boards: Boards, chip: str, name: str) -> None:
    """The same; what Mesa reads after its submits is what the simulator makes of the recording.

    The layers of these recordings are judged one by one by the tests of the drivers.
    """
    judge(boards.case(chip, name))


def photo() -> Path:
    mpl = pytest.importorskip("matplotlib")
    return Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def seen(boards: Boards, chip: str, name: str) -> tuple[list[Array], list[Array]]:
    """Return the outputs for a photo, Mesa's and the reference kernels'."""
    path = model_path(name)
    (value,) = read_graph(path).inputs
    array = to_input(read_image(photo()), value.type)
    assert value.index is not None
    run = boards.client(chip).run(path, {value.index: array})
    oracle = Oracle(path)
    reference = oracle.run([array])
    return [run.outputs[detail["index"]] for detail in oracle.outputs], reference


@every_chip
def test_mobilenet_knows_the_photo(boards: Boards, chip: str) -> None:
    """The first class is the same; the others of the top five too, but for ties."""
    (mine,), (reference,) = seen(boards, chip, WHOLE[0])
    scores = reference[0].astype(int)
    ours, theirs = (np.argsort(-a[0].astype(int), kind="stable")[:5] for a in (mine, reference))
    assert ours[0] == theirs[0]
    assert int(np.abs(scores[ours] - scores[theirs]).max()) <= 1
    assert int(np.abs(mine.astype(int) - reference.astype(int)).max()) <= 3


def test_mobiledet_finds_the_objects(boards: Boards) -> None:
    """Not on the other chips: there Mesa's RESHAPE behind a convolution is wrong (B13)."""
    mine, reference = (detections(o, 0.4) for o in seen(boards, "rk3588", WHOLE[1]))
    assert reference
    assert [d.label for d in mine] == [d.label for d in reference]
    assert all(a.iou(b) > 0.9 for a, b in zip(mine, reference, strict=True))


def test_a_broken_rule_ends_no_job(boards: Boards) -> None:
    """A pad value with two different bytes: even channels are right, as on silicon (inferred)."""
    case = boards.case("rk3588", "mobiledet-086")
    ((index, have),) = case.run.outputs.items()
    steps = np.abs(have.astype(int) - case.expected[index].astype(int))
    assert steps[..., ::2].max() <= 1 < steps[..., 1::2].max()


@every_chip
def test_every_request_is_known(boards: Boards, chip: str) -> None:
    """The fake kernel answers all that Mesa asks, as the kernel does."""
    assert [c for c in boards.case(chip, "mb-004").run.complaints if "no handler" in c] == []


@pytest.mark.parametrize("chip", ["rk3588", "a311d"])
def test_the_command_records_it(boards: Boards, chip: str, tmp_path: Path) -> None:
    """What a person types: `teflon board CHIP --record FILE -- qemu-aarch64 ... PROGRAM`."""
    known = boards.case(chip, "conv2d")
    assert known.run.recording is not None
    (array,) = seeded_inputs(known.given).values()
    index = str(known.given.meta["inputs"][0]["index"])
    np.savez(tmp_path / "inputs.npz", **{index: array})  # type: ignore[arg-type]
    order = {"model": str(model_path("conv2d")), "inputs": str(tmp_path / "inputs.npz"),
             "into": str(tmp_path)}  # fmt: skip
    system = boards.sysroot
    done = subprocess.run(
        [sys.executable, "-m", "teflon", "board", chip, "--record", tmp_path / "run.npz", "--",
         *system.command(GUEST, str(system.delegate))],
        input=json.dumps(order) + "\n", capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, '"ready"\n0\n'), done.stderr
    assert differences(known.run.recording, recording.read(tmp_path / "run.npz")) == []


def test_the_newest_is_brought_once(boards: Boards) -> None:
    """A system of this day is taken from the cache, the same one."""
    again = sysroot.bring()
    assert again == boards.sysroot
    assert again.delegate.is_file()
