"""One more operation takes a rule file and an operation, and no change anywhere between them.

The operation of these tests exchanges left and right of a map. Neither the IR nor the driver knows
it; a job of the TP cores can do it. It runs beside a convolution, which the driver has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Array, TensorType
from teflon_common.rules import Rules
from teflon_etnaviv import jobs_text, program_text, teflon_driver, timing
from teflon_etnaviv.chips import Chip, chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.emission import build
from teflon_etnaviv.exact import rules
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.memory import together
from teflon_etnaviv.memory import Pack
from teflon_etnaviv.mesa.memory import apart
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tensors import Layout
from teflon_etnaviv.tp.operation import TP, shares
from tests.etnaviv.parity import CHIPS

HEIGHT, WIDTH, CHANNELS, KERNELS = 5, 7, 4, 9


@dataclass(frozen=True, eq=False, kw_only=True)
class Mirror(Op):
    """Exchange left and right; NHWC."""

    mnemonic: ClassVar[str] = "mirror"
    tflite_name: ClassVar[str] = "MIRROR"

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (self.input.type,)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        (x,) = operands
        assert x is not None
        return (np.ascontiguousarray(x[:, :, ::-1]),)


@dataclass(frozen=True, eq=False)
class MirrorPlanes(TP):
    """Writes the rows of planes from their ends on; the jobs share the planes."""

    detail: ClassVar[str] = "mirror"

    jobs: int

    def compile(self, chip: Chip) -> Compiled:
        height, width, channels = self.inputs[0].sizes
        plane, zero = height * width, self.inputs[0].zero_point
        return Compiled(
            tuple(
                Job(
                    TPInstruction(
                        in_image_x_size=width,
                        in_image_y_size=height,
                        in_image_z_size=share.planes,
                        in_image_stride=width,
                        in_image_slice=plane,
                        in_window_x_end=width - 1,
                        in_window_y_end=height - 1,
                        in_tile_x_size=width,
                        in_tile_y_size=height,
                        in_tile_x_inc=width,
                        in_tile_y_inc=height,
                        no_flush=not share.is_last,
                        out_loop_0_count=1,
                        out_loop_1_inc=-1,
                        out_loop_1_count=width,
                        out_loop_2_inc=width,
                        out_loop_2_count=height,
                        out_loop_6_inc=plane,
                        in_zp=zero,
                        out_zp=zero,
                    ),
                    plane * share.first,
                    plane * share.first + width - 1,
                )
                for share in shares(channels, self.jobs)
            )
        )


FAMILY = Rules[Chip, Lower]()


@FAMILY.requires
def countable(op: Mirror, chip: Chip) -> str | None:
    """Mirrored rows must have at most {tp_image_max} pixels."""
    width = op.input.shape[2]
    return None if width <= chip.tp_image_max else f"they have {width}"


@FAMILY.lowers
def mirror(op: Mirror, state: Lowering) -> None:
    source = state.get(op.input, Layout.PLANES)
    target = state.define(op.output, Layout.PLANES)
    jobs = min(state.chip.tp_jobs, source.shape[3])
    state.add(MirrorPlanes(op.where, (source,), (target,), jobs))


RULES = Rules(rules.RULES, FAMILY)


def graph(width: int = WIDTH) -> Graph:
    """A convolution, and its result mirrored; both are outputs."""
    random = np.random.default_rng(3)
    b = Builder("mirror")
    x = b.input("x", "u8", (1, HEIGHT, width, CHANNELS), 0.02, 120)
    weights = random.integers(0, 256, (KERNELS, 1, 1, CHANNELS)).astype(np.uint8)
    y = b.conv2d(x, weights, weight_scale=0.01, weight_zero_point=121, scale=0.1, zero_point=110)
    b.output(y)
    made = b.build()
    mirrored = Value("mirrored", y.type)
    op = Mirror(input=y, output=mirrored)
    names = (*made.output_names, "mirrored")
    return replace(made, ops=(*made.ops, op), outputs=(y, mirrored), output_names=names)


def packs(about: Chip) -> dict[str, Pack]:
    return {"few buffers": partial(together, chip=about), "a buffer for each thing": apart}


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize("pack", ["few buffers", "a buffer for each thing"])
def test_it_runs_beside_a_convolution(name: str, pack: str) -> None:
    about, model = chip(name), graph()
    lowered = Lowering(model, about).run(RULES)
    made = build(model, lowered, about, "exact", packs(about)[pack])
    program = EtnavivDevice(name).load(made.to_bytes())
    x = np.random.default_rng(4).integers(0, 256, model.inputs[0].shape).astype(np.uint8)
    with teflon_driver().simulate(name) as context:
        plain, mirrored = context.invoke(context.load(program), [x])
    assert len(np.unique(plain)) > 20
    wanted, _ = interpreter.run(model, [x])
    assert np.abs(plain.astype(int) - wanted.astype(int)).max() <= 1
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    assert (mirrored != plain).any()


@pytest.mark.parametrize("name", CHIPS)
def test_it_has_its_text_and_its_cost(name: str) -> None:
    about, model = chip(name), graph()
    lowered = Lowering(model, about).run(RULES)
    rows = jobs_text.text(lowered).splitlines()[3 : 3 + len(lowered.operations)]
    assert [(row[4:6], row[37:]) for row in rows] == [
        ("TP", "x (transpose)"), ("NN", "conv2d"), ("TP", "mirrored (mirror)"),
        ("TP", "conv2d (detranspose)"), ("TP", "mirrored (detranspose)"),
    ]  # fmt: skip
    made = build(model, lowered, about, "exact", packs(about)["few buffers"])
    program = EtnavivDevice(name).load(made.to_bytes())
    shown = program_text.describe(program)
    assert (
        len([line for line in shown.splitlines() if "out_loop_1_inc=-1" in line]) == about.tp_jobs
    )
    costs = [cost for cost in timing.costs(program) if cost.name == "mirrored"]
    mine = [cost for cost in costs if cost.engine == "tp"][: about.tp_jobs]
    moved = HEIGHT * WIDTH * KERNELS
    assert sum(cost.dram_read for cost in mine) == sum(cost.dram_written for cost in mine) == moved
    assert all(cost.total_ms > 0 and not cost.macs for cost in mine)
    (convolution,) = [cost for cost in timing.costs(program) if cost.engine == "nn"]
    assert convolution.macs == moved * CHANNELS


def test_its_limit_has_the_number_of_the_chip() -> None:
    about, model = chip("a311d"), graph(70000)
    assert RULES.reasons(model.ops[-1], about) == [
        "Mirrored rows must have at most 65535 pixels (they have 70000)"
    ]
    assert RULES.reasons(graph().ops[-1], about) == []
    assert Mirror in RULES.lowered
    assert Mirror not in rules.RULES.lowered
