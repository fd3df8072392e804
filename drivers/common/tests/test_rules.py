"""Rules of drivers: operations of a function, texts with the chip's numbers, joined families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from teflon.errors import OptionError, UnsupportedOperation
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Abs, Relu, Relu6, Tanh
from teflon.pipe import Program
from teflon_common.rules import Rules, operations_of
from teflon_common.strategy import Strategy, StrategyDevice, chosen


@dataclass(frozen=True)
class Chip:
    name: str
    most: int


SMALL, LARGE = Chip("small", 4), Chip("large", 9)
Lower = Callable[..., str]


def family() -> Rules[Chip, Lower]:
    """Rules for ABS and RELU with a limit of elements and one axis."""
    rules = Rules[Chip, Lower]()

    @rules.requires_first
    def one_axis(op: Op, chip: Chip) -> str | None:
        """Tensors must have one axis."""
        return None if op.results[0].type.rank == 1 else f"{op.results[0].type.rank} axes"

    @rules.requires
    def size(op: Abs | Relu, chip: Chip) -> str | None:
        """Tensors must have at most {most} elements."""
        count = op.output.type.size
        return None if count <= chip.most else f"{count} elements"

    @rules.lowers
    def absolute(op: Abs) -> str:
        return f"abs {op.where}"

    @rules.lowers
    def relu(op: Relu) -> str:
        return f"relu {op.where}"

    return rules


def operation(kind: str, *shape: int) -> Op:
    b = Builder("one")
    b.output(getattr(b, kind)(b.input("x", "i8", shape, scale=1.0), name="it"))
    return b.build().ops[0]


def test_annotations_say_which_operations() -> None:
    rules = family()
    assert set(rules.checked) == set(rules.lowered) == {Abs, Relu}
    asked = {check.look.__name__: set(kinds) for kinds, check in rules}
    assert asked == {"one_axis": {Abs, Relu}, "size": {Abs, Relu}}


def test_reasons_contain_the_chip_s_numbers() -> None:
    rules = family()
    assert rules.reasons(operation("relu", 5), LARGE) == []
    assert rules.reasons(operation("relu", 5), SMALL) == [
        "Tensors must have at most 4 elements (5 elements)"
    ]


def test_checks_that_others_rely_on_are_called_first() -> None:
    assert family().reasons(operation("abs", 5, 5), SMALL) == [
        "Tensors must have one axis (2 axes)"
    ]


def test_a_rule_for_several_chips_names_the_chip_of_each_number() -> None:
    (check,) = (check for _, check in family() if check.look.__name__ == "size")
    assert check.rule(SMALL) == "Tensors must have at most 4 elements"
    assert check.rule(SMALL, LARGE) == ("Tensors must have at most 4 (small) or 9 (large) elements")


def test_families_are_joined_and_an_operation_is_in_one_family() -> None:
    other = Rules[Chip, Lower]()

    @other.lowers
    def tanh(op: Tanh) -> str:
        return "tanh"

    joined = Rules(family(), other)
    op = operation("tanh", 1)
    assert joined.lowering(op)(op) == "tanh"
    assert set(joined.lowered) == {Abs, Relu, Tanh}
    assert set(joined.checked) == {Abs, Relu}
    with pytest.raises(TypeError, match=r"^Abs: is lowered twice, must be lowered once$"):
        _ = Rules(family(), family()).lowered


def test_what_families_share_comes_before_their_own() -> None:
    joined = Rules(family())

    @joined.requires_first
    def named(op: Op, chip: Chip) -> str | None:
        """Operations must have a name."""
        return "it has none"

    assert [check.look.__name__ for _, check in joined] == ["named", "one_axis", "size"]
    assert joined.reasons(operation("abs", 5, 5), SMALL) == [
        "Operations must have a name (it has none)", "Tensors must have one axis (2 axes)",
    ]  # fmt: skip


def test_an_operation_that_no_function_lowers_is_refused() -> None:
    op = operation("relu6", 3)
    assert isinstance(op, Relu6)
    assert family().reasons(op, SMALL) == ["the driver does not run RELU6 on this NPU"]
    with pytest.raises(
        UnsupportedOperation, match=r"^RELU6 'it': the driver does not run it on this NPU$"
    ):
        family().lowering(op)


def test_an_annotation_that_is_not_an_operation_is_refused() -> None:
    def wrong(op: int) -> None: ...

    with pytest.raises(TypeError, match=r"must be operations of teflon\.ir$"):
        operations_of(wrong)


class Plain(Strategy[Chip, Program]):
    """A strategy that supports no operation."""

    name = "plain"

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return ["nothing runs"]

    def compile(self, graph: Graph, chip: Chip) -> Program:
        raise UnsupportedOperation("all", ["nothing runs"])


def test_a_strategy_is_chosen_by_name_the_first_by_default() -> None:
    assert chosen("x", {"plain": Plain}, {}).name == "plain"
    with pytest.raises(
        OptionError,
        match=r"^x: strategy is 'plan', must be one of plain \(did you mean plain\?\)$",
    ):
        chosen("x", {"plain": Plain}, {"strategy": "plan"})


def test_a_device_asks_its_strategy() -> None:
    class FakeDevice(StrategyDevice[Chip, Program]):
        def load(self, data: bytes | memoryview) -> Program:
            raise NotImplementedError

    op = operation("relu", 3)
    device = FakeDevice(SMALL, Plain({}))
    assert device.unsupported(op, Graph("", (), (), (op,))) == ["nothing runs"]
    assert device.divisible()
