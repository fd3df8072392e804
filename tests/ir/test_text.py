"""The text form: prints, parses, round-trips, refuses."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import ModelError
from teflon.ir import Graph, ops
from teflon.ir.text import parse, to_text
from tests.ir.helpers import differences, graphs

TINY = """\
graph "tiny" {
  input %x: u8[1,8,8,3] {0.5:128} as "image"
  const %w: u8[4,1,1,3] {0.25:127} = splat 130
  const %b: i32[4] {axis 0: 0.125:0, 0.1:0, 0.2:0, 0.3:0} @3 = [1, -2, 3, 4]
  %"y y": u8[1,8,8,4] {1.0:128} = conv2d(%x, %w, %b) padding=(0, 1, 0, 0) activation=relu6
  %x#2: u8[1,8,8,4] {1.0:128}, %z: u8[1,8,8,4] = split(%"y y") axis=0 location="here" index=7
  %o: f32[0] = opaque([%x#2, none]) kind="WHAT" options=base64 "AAE="
  output %z as "result"
  output %o
}
"""


def test_printed_as_documented() -> None:
    assert to_text(parse(TINY)) == TINY


@given(graphs())
@settings(max_examples=300)
def test_any_graph_round_trips(graph: Graph) -> None:
    text = to_text(graph)
    again = parse(text)
    assert not differences(graph, again)
    assert to_text(again) == text


def test_every_operation_has_a_word_of_its_own() -> None:
    words = [c.mnemonic for c in ops.CLASSES]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", w) for w in words)


def test_comments_and_space_do_not_matter() -> None:
    loose = TINY.replace("\n", "  # why\n\n").replace(", ", " ,\t")
    assert to_text(parse(loose)) == TINY


def test_digest_only_is_for_viewing() -> None:
    data = bytes(range(32))
    text = (
        f'graph "g" {{ const %c: u8[4,8] = base64 "{base64.b64encode(data).decode()}" output %c }}'
    )
    shown = to_text(parse(text), data=False)
    assert f'= sha256 "{hashlib.sha256(data).hexdigest()}"' in shown
    with pytest.raises(ModelError, match=r"^text:2:23: constant %c: holds only a digest, must"):
        parse(shown)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("graph", "grph", "text:1:1: is grph, must be 'graph'"),
        ('"tiny"', "tiny", "text:1:7: is tiny, must be a string in quotes"),
        ("u8[1,8,8,3]", "u9[1,8,8,3]", "text:2:13: element type is u9, must be one of u8, i8, "),
        ("u8[1,8,8,3]", "u8[1,8,8", "text:2:22: is {, must be ','"),
        ("u8[1,8,8,3]", "u8[1,-8,8,3]", "text:2:18: size is -8, must be within 0"),
        ("u8[1,8,8,3]", "u8[1,2147483648,8,3]", "text:2:18: size is 2147483648, must be within 0"),
        ("u8[1,8,8,3]", "u8[1,1e9,8,3]", "text:2:18: is 1e9, must be a whole number"),
        ("i32[4]", f"i32[{',1' * 33}]".replace("[,", "["), "text:4:13: has 33 axes, must have at"),
        ("u8[4,1,1,3]", f"u8[{'2147483647,' * 2}4]", "text:3:13: has 18446744056529682436 bytes,"),
        ("{0.5:128}", "{0:128}", "text:2:26: scale is 0, must be positive and finite"),
        ("{0.5:128}", "{-0.5:128}", "text:2:26: scale is -0.5, must be positive and finite"),
        ("{0.5:128}", "{nan:128}", "text:2:26: scale is nan, must be positive and finite"),
        ("{0.5:128}", "{inf:128}", "text:2:26: scale is inf, must be positive and finite"),
        ("{0.5:128}", "{1e39:128}", "text:2:26: scale is inf, must be positive and finite"),
        ("{0.5:128}", "{0.5:256}", "text:2:13: zero point is 256, must be a whole number from 0"),
        ("{0.5:128}", f"{{0.5:{1 << 63}}}", "text:2:13: zero point is 9223372036854775808, must"),
        ("{0.5:128}", f"{{0.5:{1 << 64}}}", "text:2:30: is 18446744073709551616, must be a number"),
        ("{0.5:128}", f"{{0.5:{'9' * 5000}}}", "text:2:30: is 9999999999999999999999999999999"),
        ("{0.5:128}", "{0.5:1, 0.5:2}", "text:2:13: has 2 scales and no axis, must have 1"),
        ("axis 0: 0.125", "axis 1: 0.125", "text:4:13: axis of the scales is 1, must be one of 1"),
        ("0.3:0}", "0.3:0, 0.4:0}", "text:4:13: has 5 scales, must have 4, the size of its axis"),
        ('base64 "AAE="', 'base64 "\u00e9"', "text:7:64: base64: "),
        ("index=7", "index=2147483648", "text:6:93: index is 2147483648, must be a whole number"),
        ("u8[1,8,8,3]", "u8[1,8.5,8,3]", "text:2:18: is 8.5, must be a whole number"),
        ("{0.5:128}", "{}", "text:2:28: quantisation is empty, must hold scale:zero_point"),
        ("[1, -2, 3, 4]", "[1, 2]", "text:4:64: constant %b: has 2 elements, must have 4"),
        ("splat 130", "splat 256", "text:3:38: constant %w: element 256 is outside u8"),
        ("splat 130", "splat 1.5", "text:3:38: constant %w: element 1.5 is no number of u8"),
        ("splat 130", 'base64 "AA=="', "text:3:38: constant %w: has 1 bytes, must have 12"),
        ("splat 130", 'base64 "A"', "text:3:45: base64: "),
        ("splat 130", "130", "text:3:38: is 130, must be base64, splat or [numbers]"),
        ("conv2d", "conv9d", "text:5:35: operation conv9d is not known"),
        ("(%x, %w, %b)", "(%q, %w, %b)", "text:5:42: %q is read before anything made it"),
        ("(%x, %w, %b)", "(%x, %w)", "text:5:35: conv2d has 2 operands, must have (input, weig"),
        ("(%x, %w, %b)", "(%x, [%w], %b)", "text:5:35: conv2d: operand weights is of the wrong"),
        ("(%x, %w, %b)", "(none, %w, %b)", "text:5:35: conv2d: operand input is of the wrong"),
        ("activation", "actuation", "text:5:75: conv2d has no attribute actuation here"),
        ("=relu6", "=relu7", "text:5:86: activation is 'relu7', must be one of none, relu, "),
        ("=relu6", '="relu6"', "text:5:86: activation is 'relu6', must be one of none, relu, "),
        ("(0, 1, 0, 0)", "(0, 1, 0)", "text:5:62: padding is (0, 1, 0), must be (top, bottom, le"),
        (
            " activation=",
            " stride=1 activation=",
            "text:5:82: stride is 1, must be 2 items in pare",
        ),
        ("axis=0", "axis=none", "text:6:69: axis is 'none', must be a whole number"),
        ("axis=0 ", "", "text:6:50: split lacks axis"),
        ("%x#2:", "%x:", "text:6:3: %x exists already"),
        ("= split", "+ split", "text:6:48: is '+', must be a word, %value, number,"),
        ("output %o", "output %", "text:9:10: is '%', must be a word, %value, number,"),
        (
            "\n}\n",
            "\n",
            "text:10:1: is the end, must be a value like %x, input, state, const, output, keep",
        ),
        ("\n}\n", "\n}}\n", "text:10:2: is }, must be the end"),
        ('location="here"', f"location={'(' * 9}", "text:6:85: parentheses are nested too"),
    ],
)
def test_mistakes_name_line_and_column(old: str, new: str, message: str) -> None:
    assert old in TINY
    with pytest.raises(ModelError, match="^" + re.escape(message)):
        parse(TINY.replace(old, new, 1))


@given(st.data())
@settings(max_examples=300)
def test_damaged_text_is_a_model_error_or_a_graph(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(TINY) - 1))
    length = data.draw(st.integers(0, 12))
    junk = data.draw(st.sampled_from(["", "(", "]", '"', "%", "9" * 50, "none", "\\", "é"]))
    try:
        graph = parse(TINY[:start] + junk + TINY[start + length :])
    except ModelError as error:
        place = str(error).split(" ")[0]
        assert re.fullmatch(r"text:\d+:\d+:", place)
        return
    assert not differences(graph, parse(to_text(graph)))


def test_constants_are_exact() -> None:
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], np.uint32).view(np.float32)
    text = to_text(parse(TINY))
    graph = parse(text)
    value = next(v for v in graph.constants if v.name == "b")
    assert value.data is not None
    assert value.data.tolist() == [1, -2, 3, 4]
    assert not value.data.flags.writeable
    written = base64.b64encode(bits.tobytes()).decode()
    odd = parse(f'graph "g" {{ const %n: f32[4] = base64 "{written}" output %n }}')
    printed = to_text(odd)
    assert "base64" in printed
    data = parse(printed).outputs[0].data
    assert data is not None
    assert data.tobytes() == bits.tobytes()


def test_place_is_named(tmp_path: Path) -> None:
    name = str(tmp_path / "a.ir")
    with pytest.raises(ModelError, match="^" + re.escape(f"{name}:1:1: is the end")):
        parse("", name)
