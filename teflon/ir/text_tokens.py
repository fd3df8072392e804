"""Cut the text form into tokens, and read the simplest things from them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from teflon.errors import ModelError

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    | (?P<value>%(?:[A-Za-z0-9_./-]+|"(?:[^"\\\n]|\\.)*")(?:\#\d+)?)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<number>-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?d?|inf\b|nan\b))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>[][(){}:,=@])""",
    re.VERBOSE | re.ASCII,
)

_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1
_DIGITS = 30
"""A number of so many characters is out of range, whatever they are."""


@dataclass(frozen=True)
class Token:
    """One word of the text and where it stands."""

    kind: str
    text: str
    offset: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        return self.text if len(self.text) <= 40 else self.text[:37] + "..."


class Reader:
    """Walks over tokens. Raises ModelError with line and column where one is wrong."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens = self._split()
        self.token = next(self.tokens)

    def _split(self) -> Iterator[Token]:
        offset = 0
        while offset < len(self.text):
            match = _TOKEN.match(self.text, offset)
            if match is None:
                wanted = "a word, %value, number, string or mark"
                self.fail(f"is {self.text[offset]!r}, must be {wanted}", offset)
            if match.lastgroup != "space":
                yield Token(str(match.lastgroup), match.group(), offset)
            offset = match.end()
        yield Token("end", "", offset)

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        at = self.token.offset if offset is None else offset
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        raise ModelError(f"{self.where}:{line}:{column}: {message}")

    def take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self.token = next(self.tokens)
        return token

    def accept(self, text: str) -> bool:
        if self.token.text != text or self.token.kind in ("string", "value"):
            return False
        self.take()
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"is {self.token}, must be {text!r}")

    def want(self, kind: str, what: str) -> Token:
        if self.token.kind != kind:
            self.fail(f"is {self.token}, must be {what}")
        return self.take()

    def listed(self, close: str, item: Callable[[], Any]) -> list[Any]:
        """Read items with commas between them up to the closing mark."""
        found: list[Any] = []
        while not self.accept(close):
            if found:
                self.expect(",")
            found.append(item())
        return found

    def string(self) -> str:
        return self.unquoted(self.want("string", "a string in quotes"))

    def unquoted(self, token: Token) -> str:
        try:
            return str(json.loads(token.text, strict=False))
        except json.JSONDecodeError as error:
            self.fail(f"string: {error.msg}", token.offset)

    def integer(self) -> int:
        token = self.want("number", "a whole number")
        number = self.number_of(token)
        if isinstance(number, float):
            self.fail(f"is {token}, must be a whole number", token.offset)
        return number

    def real(self) -> float:
        return float(self.number_of(self.want("number", "a number")))

    def number_of(self, token: Token) -> int | float:
        text = token.text
        if re.fullmatch(r"-?\d+", text):
            number = int(text) if len(text) < _DIGITS else _SMALLEST - 1
            if not _SMALLEST <= number <= _LARGEST:
                self.fail(f"is {token}, must be a number of 64 bits", token.offset)
            return number
        if text.endswith("d"):
            return float(text[:-1])
        with np.errstate(over="ignore"):
            return float(np.float32(float(text)))

    def bytes_(self) -> bytes:
        at = self.token.offset
        try:
            return base64.b64decode(self.string(), validate=True)
        except ValueError as error:  # `binascii.Error` is one
            self.fail(f"base64: {error}", at)
