"""The conformance kit catches drivers that are wrong, and names the case."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teflon.compile.planning import plan_model
from teflon.errors import OptionError
from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Conv2D
from teflon.ir.types import NO_PADDING, Array
from teflon.pipe import Data, Executable, Fence, Program
from teflon_common.conformance import contract, matrix
from teflon_common.conformance.bench import Bench, Outcome, Status, refusals, run_case
from teflon_common.conformance.expectations import Expectations
from teflon_common.conformance.grid import cases
from teflon_cpu.context import CpuContext, CpuExecutable
from teflon_cpu.device import CpuDevice, CpuProgram
from tests.paths import ROOT

CASES = {case.name: case for case in cases()}
CONVOLUTIONS = [case for case in cases() if case.op == "CONV_2D"]


class Flooring(Conv2D):
    """Cuts off where it must round: half a step less before rounding."""

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        quantization = self.weights.type.quantization
        assert quantization is not None
        unit = np.float64(self.input.type.scale) * np.array(quantization.scales)
        half = np.round(0.5 * self.output.type.scale / unit).astype(np.int32)
        bias = operands[2] if operands[2] is not None else np.zeros(self.output.shape[3], np.int32)
        return super().compute(operands[0], operands[1], bias - half)


class PaddingWithZero(Conv2D):
    """Pads with the byte 0 in place of the zero point."""

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        p, x = self.padding, operands[0]
        assert x is not None
        grown = np.pad(x, ((0, 0), (p.top, p.bottom), (p.left, p.right), (0, 0)))
        alone = Conv2D(**{**_fields(self), "padding": NO_PADDING})
        return alone.evaluate(grown, *operands[1:])


class Turned(Conv2D):
    """Reads its kernels column by column."""

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        weights = operands[1]
        assert weights is not None
        if weights.shape[1] == weights.shape[2]:
            weights = np.ascontiguousarray(weights.transpose(0, 2, 1, 3))
        return super().compute(operands[0], weights, operands[2])


def _fields(op: Op) -> dict[str, Any]:
    return {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}


class Mutant(CpuContext):
    """The CPU driver with one wrong operation."""

    def __init__(self, wrong: type[Conv2D]) -> None:
        super().__init__()
        self.wrong = wrong

    def load(self, program: Program) -> Executable:
        assert isinstance(program, CpuProgram)
        ops = [self.wrong(**_fields(op)) if type(op) is Conv2D else op for op in program.graph.ops]
        return super().load(CpuProgram(program.graph.with_ops(ops)))


CAUGHT: dict[str, set[str]] = {}


def caught(wrong: type[Conv2D]) -> set[str]:
    """Return the names of the cases that fail with a wrong operation; run once for each."""
    if wrong.__name__ not in CAUGHT:
        CAUGHT[wrong.__name__] = _caught(wrong)
    return CAUGHT[wrong.__name__]


def _caught(wrong: type[Conv2D]) -> set[str]:
    bench = Bench(CpuDevice(), Mutant(wrong))
    small = [
        case for case in CONVOLUTIONS if "112x112" not in case.name and "80x80" not in case.name
    ]
    return {c.name for c in small if run_case(bench, c).status is Status.FAIL}


def test_the_driver_without_a_mutation_passes() -> None:
    assert caught(Conv2D) == set()


MUTATIONS: tuple[tuple[type[Conv2D], str, str], ...] = (
    (
        Flooring,
        "conv2d[in=8x8x32-out=32-k=3-s=1-valid-u8]",
        "conv2d[in=8x8x1-out=1-k=1-s=2-valid-u8]",
    ),
    (
        PaddingWithZero,
        "conv2d[in=8x8x16-out=24-k=3-s=1-same-highest-zero-u8]",
        "conv2d[in=8x8x32-out=32-k=3-s=1-valid-u8]",
    ),
    (
        Turned,
        "conv2d[in=8x8x32-out=32-k=3-s=1-valid-i8-axis]",
        "conv2d[in=8x8x32-out=32-k=1-s=1-valid-i8-axis]",
    ),
)
"""Mutation, a case that must catch it, a case that it cannot touch: too few results, no padding,
one tap.
"""


@pytest.mark.parametrize(
    ("wrong", "by", "never"), MUTATIONS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_mutation_is_caught_by_name(wrong: type[Conv2D], by: str, never: str) -> None:
    found = caught(wrong)
    assert {by, never} <= set(CASES)
    assert by in found
    assert never not in found
    assert len(found) > 20


def test_each_mutation_is_caught_for_its_own_reason() -> None:
    """Padding is wrong only where there is some; a lowest zero point of uint8 is the byte 0."""
    found = caught(PaddingWithZero)
    assert not any("valid" in name for name in found)
    assert "conv2d[in=8x8x16-out=24-k=3-s=1-same-lowest-zero-u8]" not in found
    assert not any("-k=1-" in name for name in caught(Turned))


class Late(CpuContext):
    """Looks at the inputs when the outputs are fetched."""

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        context = CpuContext()

        class LateFence(Fence):
            def done(self) -> bool:
                return False

            def wait(self, timeout: float | None = None) -> list[Array]:
                return context.submit(executable, inputs).wait()

        return LateFence()


class Lenient(CpuDevice):
    """Takes any bytes for a program, and accepts any operation."""

    def load(self, data: Data) -> Program:
        return CpuProgram(CONVOLUTIONS[0].graph())

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return []


class Deaf(CpuContext):
    """Runs what is closed."""

    def load(self, program: Program) -> Executable:
        class Immortal(CpuExecutable):
            def close(self) -> None:
                pass

        super().load(program)
        assert isinstance(program, CpuProgram)
        return Immortal(program)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Bench(CpuDevice(), Late()),
         {"inputs-stay-outputs-are-new", "fences-in-any-order"}),
        (lambda: Bench(Lenient(), CpuContext()),
         {"damaged-program", "wrong-chip", "refused-operation", "round-trip"}),
        (lambda: Bench(CpuDevice(), Deaf()), {"closing-twice"}),
    ],
    ids=["late", "lenient", "deaf"],
)  # fmt: skip
def test_broken_promises_are_caught_by_name(make: Callable[[], Bench], names: set[str]) -> None:
    bench = make()
    ends = {name: contract.run_check(bench, name).status for name in contract.CHECKS}
    assert {n for n, s in ends.items() if s in (Status.FAIL, Status.CRASH)} == names


# Expectations --------------------------------------------------------------------------------


def lists(tmp_path: Path, **files: str) -> Expectations:
    for kind, text in files.items():
        (tmp_path / f"made-m1-{kind}.txt").write_text(text)
    return Expectations.read(tmp_path, "made-m1")


def test_expectations(tmp_path: Path) -> None:
    found = lists(
        tmp_path, fails="# why\nconv[a],Fail  # known\nadd*,Skip\nmul[b],Pass\n",
        skips=r"slow\[.*\]" + "\n", flakes=r"moody\[1\]" + "\n",
    )  # fmt: skip
    fail, skip, passed = (Outcome(s, "why") for s in (Status.FAIL, Status.SKIP, Status.PASS))
    assert found.verdict("conv[a]", fail) == ""
    assert found.verdict("conv[a]", passed).startswith("unexpected pass: must end in Fail")
    assert found.verdict("conv[a]", skip) == "ended in Skip, must end in Fail: why"
    assert found.verdict("add[x]", skip) == ""
    assert found.verdict("add[x]", passed).startswith("unexpected pass")
    assert found.verdict("mul[b]", skip) == "ended in Skip, must end in Pass: why"
    assert found.verdict("other[c]", fail) == "why"
    assert found.verdict("other[c]", skip) == ""
    assert found.skips_it("slow[1]")
    assert not found.skips_it("slow[1")
    assert found.is_flake("moody[1]")
    assert found.stale(["conv[a]", "add[1]", "slow[x]"]) == ["mul[b]", r"moody\[1\]"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("fails", "conv[a]\n", "must be NAME,STATUS with one of Pass, Fail, Crash, Skip"),
        ("fails", "conv[a],Maybe\n", "made-m1-fails.txt:1: is 'conv[a],Maybe'"),
        ("skips", "\n(\n", "made-m1-skips.txt:2: '(' is not a regular expression"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, kind: str, text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught_error:
        lists(tmp_path, **{kind: text})
    assert message in str(caught_error.value)


# The plugin ----------------------------------------------------------------------------------


def run_pytest(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null",
         "--rootdir", str(tmp_path), *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip


KIT = ("--pyargs", "teflon_common.conformance")
MATRICES = (*KIT, "-k", "fully_connected or expectations", "--npu-device=cpu")


def test_the_command_of_the_documentation(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, *MATRICES, "--npu-matrix=out/support")
    assert done.returncode == 0, done.stdout
    assert "25 passed" in done.stdout
    found = json.loads((tmp_path / "out/support.json").read_text())
    assert len(found["cpu-cpu"]) == 24
    assert {row["status"] for row in found["cpu-cpu"].values()} == {"Pass"}
    assert "| `FULLY_CONNECTED` | yes | yes | yes |" in (tmp_path / "out/support.md").read_text()


def test_an_unexpected_pass_fails(tmp_path: Path) -> None:
    name = "fully_connected[in=1x33-out=17-u8]"
    (tmp_path / "cpu-cpu-fails.txt").write_text(f"{name},Fail\nfully_disconnected,Skip\n")
    (tmp_path / "cpu-cpu-skips.txt").write_text(r".*-keep-.*" + "\n")
    done = run_pytest(tmp_path, *MATRICES, "--npu-expectations", str(tmp_path))
    assert done.returncode == 1
    assert f"cpu-cpu: {name}: unexpected pass: must end in Fail" in done.stdout
    assert "cpu-cpu: there is no case fully_disconnected" in done.stdout
    assert "2 failed, 17 passed, 6 skipped" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--npu-device: is missing, must name the device under test"),
        (("--npu-device=sim:nothing",), "--npu-device=sim:nothing: device 'sim:nothing': is not"),
        (("--npu-device=cpu", "--npu-expectations=gone"), "gone is not a folder, must be one"),
    ],
    ids=["missing", "unknown", "expectations"],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run_pytest(tmp_path, *KIT, *arguments)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_other_runs_of_pytest_do_not_import_the_kit(tmp_path: Path) -> None:
    """A run that has nothing to do with us imports neither numpy nor the kit."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'teflon_common.conformance.plugin' in sys.modules\n"
        "    ours = [m for m in sys.modules if m.startswith('teflon')]\n"
        "    assert set(ours) <= {'teflon_common', 'teflon_common.conformance',\n"
        "                         'teflon_common.conformance.plugin'}, ours\n"
        "    assert 'numpy' not in sys.modules\n"
    )
    done = run_pytest(tmp_path, "-p", "no:hypothesispytest", "test_it.py")
    assert done.returncode == 0, done.stdout
    helped = run_pytest(tmp_path, "--help").stdout
    assert "conformance kit for NPU drivers" in helped


# The page of support -------------------------------------------------------------------------

SUPPORT = ROOT / "docs" / "support.json"
REFRESH = "run the conformance kit with --npu-matrix=docs/support (docs/testing.md)"


def test_the_page_has_the_numbers_of_the_data() -> None:
    found = matrix.from_json(SUPPORT.read_text())
    assert (ROOT / "docs" / "support.md").read_text() == matrix.to_markdown(found), REFRESH


@pytest.mark.parametrize("spec", ["cpu", "sim:a311d", "sim:imx8mp", "sim:rk3588", "sim:s905d3"])
def test_the_page_of_support_is_fresh(spec: str) -> None:
    """Asks the chip what it takes, computes nothing: `make test` runs the kit itself."""
    bench = Bench.open(spec)
    with bench.context:
        rows = matrix.from_json(SUPPORT.read_text())[bench.name]
        known = {*CASES, *(f"contract[{name}]" for name in contract.CHECKS)}
        assert set(rows) == known, REFRESH
        for name, case in CASES.items():
            refused = refusals(plan_model(case.graph(), bench.device))
            expected = rows[name]["reason"] if rows[name]["status"] == "Skip" else ""
            assert refused == expected, f"{name}: {REFRESH}"
