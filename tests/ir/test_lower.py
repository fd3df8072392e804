"""Passes that any driver may use: text in, text out; the results stay the same bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from teflon.ir import Graph, Op, Padding
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.lower import (
    STANDARD,
    FoldPad,
    fold_constants,
    fold_pad,
    fuse_activations,
    lower_activations,
    merge_reshapes,
    remove_dead,
)
from teflon.ir.ops import Conv2D
from teflon.ir.passes import Pass, run_pipeline
from teflon.ir.text import parse, to_text
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import opaque_graph, random_inputs, sample

X = "  input %x: u8[1,4,4,2] {0.05:100}\n"
W = "  const %w: u8[2,3,3,2] {0.01:120} = splat 130\n"
T = "u8[1,4,4,2] {0.05:100}"


def after(transform: Pass, *lines: str) -> list[str]:
    """Run a pass over a graph's lines and return its lines, verified."""
    graph = parse('graph "g" {\n' + "\n".join(lines) + "\n}").verify()
    text = to_text(run_pipeline(graph, [transform], skip=[]))
    return [line.strip() for line in text.splitlines()[1:-1]]


def test_activation_becomes_a_clamp() -> None:
    made = f"  %y: {T} = conv2d(%x, %w, none) padding=(1, 1, 1, 1)"
    lines = after(lower_activations, X, W, made + " activation=relu6", "  output %y")
    assert lines[2] == made.strip() + " clamp=(100, 220)"


@pytest.mark.parametrize(
    ("type_", "activation", "clamp"),
    [
        ("u8[4] {0.05:100}", "relu", " clamp=(100, 255)"),
        ("u8[4] {0.05:0}", "relu", ""),
        ("u8[4] {0.02352941:0}", "relu6", ""),
        ("i8[4] {0.05:-3}", "relu_n1_to_1", " clamp=(-23, 17)"),
        ("i8[4] {0.05:-128}", "relu6", " clamp=(-128, -8)"),
        ("i16[4] {0.05:0}", "relu6", " clamp=(0, 120)"),
    ],
)
def test_clamps(type_: str, activation: str, clamp: str) -> None:
    add = f"%y: {type_} = add(%x, %x) activation={activation}"
    lines = after(lower_activations, f"input %x: {type_}", add, "output %y")
    assert lines[1] == f"%y: {type_} = add(%x, %x){clamp}"


def test_float_activation_stays() -> None:
    add = "%y: f32[4] = add(%x, %x) activation=relu"
    assert after(lower_activations, "input %x: f32[4]", add, "output %y")[1] == add


def test_clamps_are_lowered_once() -> None:
    graph = run_pipeline(sample("Add"), [lower_activations])
    assert lower_activations(graph) is graph


CHAIN = (
    X, W, f"%a: {T} = conv2d(%x, %w, none) padding=(1, 1, 1, 1)", f"%y: {T} = relu6(%a)",
)  # fmt: skip


def test_activation_is_fused_into_its_producer() -> None:
    lines = after(fuse_activations, *CHAIN, "output %y")
    assert lines[2:] == [
        f'%y: {T} = conv2d(%x, %w, none) padding=(1, 1, 1, 1) clamp=(100, 220) location="a"',
        "output %y",
    ]


def test_fused_ranges_intersect() -> None:
    add = f"%a: {T} = add(%x, %x) clamp=(50, 200)"
    assert after(fuse_activations, X, add, f"%y: {T} = relu(%a)", "output %y")[1] == (
        f'%y: {T} = add(%x, %x) clamp=(100, 200) location="a"'
    )
    add = f"%a: {T} = add(%x, %x) activation=relu_n1_to_1"
    assert after(fuse_activations, X, add, f"%y: {T} = relu(%a)", "output %y")[1] == (
        f'%y: {T} = add(%x, %x) clamp=(100, 120) location="a"'
    )


def test_float_activation_is_fused_as_it_is() -> None:
    lines = ("input %x: f32[4]", "%a: f32[4] = add(%x, %x)", "%y: f32[4] = relu(%a)", "output %y")
    fused = '%y: f32[4] = add(%x, %x) activation=relu location="a"'
    assert after(fuse_activations, *lines)[1] == fused


@pytest.mark.parametrize(
    "lines",
    [
        (*CHAIN, "output %y", "output %a"),
        (*CHAIN, f"%z: {T} = add(%a, %y)", "output %z"),
        (X, f"%y: {T} = relu(%x)", "output %y"),
        (X, f"%a: {T} = hard_swish(%x)", f"%y: {T} = relu(%a)", "output %y"),
        (X, f"%a: {T} = add(%x, %x)", "%y: u8[1,4,4,2] {0.06:100} = relu(%a)", "output %y"),
        (X, f"%a: {T} = add(%x, %x) clamp=(0, 50)", f"%y: {T} = relu(%a)", "output %y"),
    ],
)
def test_activation_that_must_stay(lines: tuple[str, ...]) -> None:
    graph = parse('graph "g" {\n' + "\n".join(lines) + "\n}").verify()
    assert fuse_activations(graph) is graph


PAD = "%p: u8[1,7,6,2] {0.05:100} = pad(%x, none) before=(0, 1, 2, 0) after=(0, 2, 0, 0)"
CONV = "%y: u8[1,5,4,2] {0.05:100} = conv2d(%p, %w, none)"


def test_pad_is_folded_into_the_convolution() -> None:
    lines = after(fold_pad, X, W, PAD, CONV, "output %y")
    assert lines[3] == "%y: u8[1,5,4,2] {0.05:100} = conv2d(%x, %w, none) padding=(1, 2, 2, 0)"
    lines = after(remove_dead, X, W, PAD, lines[3], "output %y")
    assert not any("pad(" in line for line in lines)


def test_pad_value_that_is_zero() -> None:
    value = "const %v: u8[1] {0.05:100} = [100]"
    lines = after(fold_pad, X, W, value, PAD.replace("none", "%v"), CONV, "output %y")
    assert "conv2d(%x" in "".join(lines)


def test_pad_that_the_hardware_cannot_do_stays() -> None:
    graph = parse('graph "g" {\n' + "\n".join((X, W, PAD, CONV, "output %y")) + "\n}")
    asked: list[Op] = []

    def refuse(op: Op) -> bool:
        asked.append(op)
        return False

    assert FoldPad(refuse)(graph) is graph
    (conv,) = asked
    assert isinstance(conv, Conv2D)
    assert conv.padding == Padding(1, 2, 2, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(%x, none)", "(%x, %v)"),
        ("%p: u8[1,7,6,2] {0.05:100} = pad", "%p: u8[1,7,6,2] {0.05:101} = pad"),
    ],
)
def test_pad_that_must_stay(old: str, new: str) -> None:
    value = "const %v: u8[1] {0.05:100} = [7]"
    pad = PAD.replace(old, new)
    assert pad != PAD
    graph = parse('graph "g" {\n' + "\n".join((X, W, value, pad, CONV, "output %y")) + "\n}")
    assert fold_pad(graph) is graph


def test_pad_of_channels_stays() -> None:
    b = Builder()
    x = b.input("x", "u8", (1, 4, 4, 1), scale=0.1, zero_point=3)
    p = b.pad(x, (0, 0, 0, 1), (0, 0, 0, 0))
    b.output(b.conv2d(p, np.ones((1, 1, 1, 2), np.uint8)))
    graph = b.build()
    assert fold_pad(graph) is graph


def test_dead_operations_go_and_opaque_ones_stay() -> None:
    lines = after(
        remove_dead, X, f"%a: {T} = relu(%x)", f"%b: {T} = relu6(%a)", f"%c: {T} = relu(%a)",
        "output %b",
    )  # fmt: skip
    assert lines[1:] == [f"%a: {T} = relu(%x)", f"%b: {T} = relu6(%a)", "output %b"]
    graph = opaque_graph()
    unread = dataclasses.replace(graph, outputs=graph.inputs, output_names=())
    assert [op.title.split()[0] for op in remove_dead(unread).ops] == ["RELU", "GATHER_ND"]


def test_constants_are_folded() -> None:
    lines = after(
        fold_constants, "const %c: u8[2] {0.5:128} = [130, 128]", "%f: f32[2] = dequantize(%c)",
        "%g: f32[2] = relu(%f)", "input %x: f32[2]", "%y: f32[2] = add(%x, %g)", "output %y",
        "output %f",
    )  # fmt: skip
    assert lines == [
        "input %x: f32[2]",
        "const %g: f32[2] = [1.0, 0.0]",
        "const %f: f32[2] = [1.0, 0.0]",
        "%y: f32[2] = add(%x, %g)",
        "output %y",
        "output %f",
    ]


def test_a_folded_scalar_is_a_scalar() -> None:
    lines = after(
        fold_constants, "const %c: i32[] = [3]", "%f: f32[] = cast(%c)", "input %x: f32[2]",
        "%y: f32[2] = add(%x, %f)", "output %y",
    )  # fmt: skip
    assert "const %f: f32[] = [3.0]" in lines


def test_what_cannot_be_computed_is_not_folded() -> None:
    graph = parse('graph "g" { const %c: u8[1] = [1] %y: u8[1] = opaque([%c]) kind="A" output %y }')
    assert fold_constants(graph) is graph


def test_reshapes_are_merged() -> None:
    lines = after(
        merge_reshapes, X, "%a: u8[4,4,2] {0.05:100} = squeeze(%x)",
        "%b: u8[16,2] {0.05:100} = reshape(%a)", "%c: u8[32] {0.05:100} = reshape(%b) index=5",
        "output %c",
    )  # fmt: skip
    assert lines[3] == "%c: u8[32] {0.05:100} = reshape(%x) index=5"


@pytest.mark.parametrize("name", EXAMPLES)
def test_results_stay_the_same_bits(name: str) -> None:
    graph = EXAMPLES[name].graph()
    passes: list[Pass] = [
        *STANDARD, lower_activations, fuse_activations, fold_pad, merge_reshapes, remove_dead,
    ]  # fmt: skip
    check_same(graph, run_pipeline(graph, passes, skip=[]))


def test_fused_graph_computes_the_same() -> None:
    b = Builder()
    x = b.input("x", "i8", (1, 9, 9, 4), scale=0.1, zero_point=-5)
    weights = np.random.default_rng(1).integers(-127, 128, (8, 3, 3, 4), np.int8)
    p = b.pad(x, (0, 1, 2, 0), (0, 2, 0, 0))
    y = b.relu6(b.conv2d(p, weights, padding=(1, 0, 0, 1), stride=2, scale=0.08, zero_point=-20))
    b.output(b.reshape(b.squeeze(b.relu(y)), (y.type.size,)))
    graph = b.build()
    passes: list[Pass] = [
        fold_pad,
        lower_activations,
        fuse_activations,
        merge_reshapes,
        remove_dead,
    ]
    lowered = run_pipeline(graph, passes, skip=[])
    assert [op.mnemonic for op in lowered.ops] == ["conv2d", "relu", "reshape"]
    check_same(graph, lowered)


def check_same(before: Graph, after: Graph) -> None:
    inputs = random_inputs(before)
    for mine, other in zip(run(before, inputs), run(after, inputs), strict=True):
        assert mine.tobytes() == other.tobytes()
