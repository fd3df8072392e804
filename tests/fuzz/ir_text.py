"""Mutants of graphs' texts; those that are read are planned for every driver and run on the CPU.

python -m tests.fuzz.ir_text --count 10000 --seed 1 [--state FILE]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

import teflon
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.errors import TeflonError
from teflon.ir.graph import Graph
from teflon.ir.text import to_text
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.values import INTEGERS, pick
from tests.ir.examples import EXAMPLES

LONGEST = 6000
"""Characters of a text that mutants are made of."""
LARGE = 1 << 22
"""Bytes of tensors from which a graph is only planned: compiling takes time for each byte."""

_TOKEN = re.compile(r'%?"(?:[^"\\]|\\.)*"|[%-]?[\w./]+(?:[+-]\d+)?|\s+|.')
_NUMBER = re.compile(r"-?[\d.]+(?:e[+-]?\d+)?d?")
_WORDS = (
    "inf", "nan", "-inf", "0.0", "-0.5", "1e39", "1e-45", "1e-46", "1e308d", "1e-320d", "9" * 5000,
    "none", "true", "false", '"x"', '"\\ud800"', '"é"', 'base64 "AAE="', 'base64 "é"', "splat 3",
    "(1, 2)", "()", "(" * 99, "relu6", "%x", "u8", "i64", "f16", "other", "bool", "c64", "dynamic",
    "axis 0:", "é", "\0", "{", "}", "[", "]", ",", "@7", "#", "state", "keep", "const", "output",
)  # fmt: skip


def seeds() -> list[bytes]:
    """Return the text of an example of each operation."""
    texts = (to_text(example.graph()) for example in EXAMPLES.values())
    return [text.encode() for text in texts if len(text) <= LONGEST]


def mutate(random: Random, corpus: Sequence[bytes]) -> Mutant:
    """Return a text with one to three changes of numbers, words or lines."""
    tokens = _TOKEN.findall(pick(random, corpus).decode())
    field = ""
    for _ in range(int(random.integers(1, 4))):
        field = _change(random, tokens, corpus)
    return Mutant(field, "".join(tokens).encode("utf-8", "surrogatepass"))


def _change(random: Random, tokens: list[str], corpus: Sequence[bytes]) -> str:
    way, at = random.random(), int(random.integers(len(tokens)))
    numbers = [n for n, token in enumerate(tokens) if _NUMBER.fullmatch(token)]
    if way < 0.6 and numbers:
        at = pick(random, numbers)
        tokens[at] = str(pick(random, INTEGERS)) if random.random() < 0.5 else pick(random, _WORDS)
        return f"number after {tokens[at - 1].strip()[:8]}"
    if way < 0.75:
        tokens[at] = tokens[int(random.integers(len(tokens)))]
        return "repeated"
    if way < 0.85:
        tokens.insert(at, pick(random, _WORDS))
        return "inserted"
    if way < 0.93 or len(tokens) < 9:
        tokens[at] = ""
        return "removed"
    other = _TOKEN.findall(pick(random, corpus).decode())
    start = int(random.integers(len(other)))
    tokens[at : at + 3] = other[start : start + 12]
    return "spliced"


def use(data: bytes, random: Random) -> str:
    """Read a text; plan what it says for a device, and run it on the CPU."""
    try:
        graph = read_graph(data)
    except TeflonError:
        return "refused"
    assert not list(graph.problems())
    if sum(value.type.size_bytes for value in graph.values) > LARGE:
        return "large"
    with suppress(TeflonError):
        device, _ = open_device(pick(random, ["rk3588", "a311d", "s905d3"]))
        compile_graph(graph, device, NONE)
    return _run(graph, data)


def _run(graph: Graph, data: bytes) -> str:
    try:
        with teflon.load(data, "cpu", cache="off") as model, np.errstate(all="ignore"):
            model.run(*(np.ones(i.shape, i.dtype) for i in model.inputs))
    except TeflonError:
        return "stopped"
    return "ran"


KINDS = {"ir_text": Kind("ir_text", seeds, mutate, use, seconds=20.0)}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
