"""Programs in stages are checked where they enter: their parts must fit their tensors."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.devices import open_device
from teflon.errors import ProgramError
from teflon.ir.builder import Builder
from teflon.run.multicore.choose import Choice
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.parts import Rows
from teflon.run.multicore.program import Prediction

_HEAD = struct.Struct("<8sIII")
DEVICE = MulticoreDevice(open_device("rk3588")[0], 2)


def stored() -> bytes:
    b = Builder("stages")
    x = b.input("x", "u8", (1, 8, 8, 4), 0.5, 128)
    kernel = np.ones((4, 3, 3, 4), np.uint8)
    b.output(b.conv2d(x, kernel, weight_scale=0.1, name="y", padding="same"))
    found = DEVICE.compile_stages(b.build(), [Choice(0, 1, Rows((0.0, 0.5, 1.0)))])
    assert found is not None
    return dataclasses.replace(found, prediction=Prediction(2.0, 1.0, 1.5)).to_bytes()


DATA = stored()


def changed(change: Callable[[Any], Any]) -> bytes:
    """The program with other JSON behind a right checksum."""
    magic, form, length, _ = _HEAD.unpack_from(DATA)
    plain = json.loads(DATA[_HEAD.size : _HEAD.size + length])
    plain = change(plain) or plain
    text = json.dumps(plain).encode()
    return _HEAD.pack(magic, form, len(text), zlib.crc32(text)) + text + DATA[_HEAD.size + length :]


def put(*path: Any) -> Callable[[Any], None]:
    """What puts the last of a path at the place that the rest of it names."""

    def change(plain: Any) -> None:
        *inside, key, value = path
        for step in inside:
            plain = plain[step]
        plain[key] = value

    return change


def test_it_is_read_as_it_is() -> None:
    assert DEVICE.load(DATA).to_bytes() == DATA
    assert DEVICE.load(changed(lambda _: None)).to_bytes() == DATA


FEED = ("stages", 0, "shares", 0, 0, 0)
YIELD = ("stages", 0, "shares", 0, 1, 0)
WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (put("driver", "other"), "its parts are not all for 'other', 'rk3588'"),
    (put("driver", 5), "header 0: driver is 5, must be text"),
    (put("reads", [9]), "reads 0: value is 9, must be a whole number from 0 to 1"),
    (put("reads", []), "stage 0 reads a tensor that nothing has made"),
    (put("makes", 0), "makes are 0, must be a list"),
    (put("tensors", 0, 1, [1, 8, 8, -4]), "a tensors: value: shape is [1, 8, 8, -4], must be"),
    (put("tensors", 0, 1, [1, 8, 9, 4]), "a part's tensor is u8[1, 5, 8, 4], must be u8[1, 5, 9"),
    (put("tensors", 0, 0, "i8"), "a part's tensor is u8[1, 5, 8, 4], must be i8[1, 5, 8, 4]"),
    (put("predicted", "chosen", float("nan")), "prediction 0: chosen is nan, must be a number"),
    (put("stages", []), "there are no stages, or more programs than parts of stages"),
    (put("stages", 0, "kind", "columns"), "stage 0: kind is 'columns', must be one of rows"),
    (put("stages", 0, "shares", []), "a stage has no parts"),
    (put("stages", 0, "shares", 5), "stage 0: shares is 5, must be a list"),
    (put("sizes", [0]), "sizes 0: value is 0, must be a whole number from 1 to"),
    (put(*FEED, [7, 1, 0, 5, 0]), "piece 0: number is 7, must be a whole number from 0 to 1"),
    (put(*FEED, [0, 9, 0, 5, 0]), "a piece is 0 to 5 of axis 9 of [1, 8, 8, 4]"),
    (put(*FEED, [0, 1, 0, 9, 0]), "a piece is 0 to 9 of axis 1 of [1, 8, 8, 4]"),
    (put(*FEED, [0, 1, 5, 0, 0]), "a piece is 5 to 0 of axis 1 of [1, 8, 8, 4]"),
    (put(*YIELD, [1, 1, 0, 3, 0]), "parts do not make all of tensor 1"),
    (put(*YIELD, [1, 1, 0, 4, 1 << 40]), "a part's tensor is u8[1, 4, 8, 4], must be u8[1, 109951"),
    (lambda plain: [plain], "list indices must be integers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_does_not_fit_is_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ProgramError, match=rf"^program: its stages cannot.*{re.escape(message)}"):
        DEVICE.load(changed(change))
