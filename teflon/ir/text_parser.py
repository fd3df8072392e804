"""Read the text form of a graph; errors name line and column."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from teflon.errors import shown
from teflon.ir import ops
from teflon.ir.fields import Word, converted, field_types, fits, kind_name
from teflon.ir.graph import Graph, Op, State, Value, operand_names, result_name
from teflon.ir.text_tokens import Reader, Token
from teflon.ir.types import FLOAT32, MOST_SIZE, Array, DType, Quantization, TensorType

MOST_BYTES = 1 << 31
"""The `splat` constants of a graph must not be larger, all together."""
_STATEMENTS = ("input", "state", "const", "output", "keep")


def parse(text: str, where: str = "text", *, verify: bool = False) -> Graph:
    """Return the graph of a text.

    `verify`: each operation must be one that `Op.verify` accepts; the rest of the graph is not
    verified. Raises ModelError `where:line:column: what is, what must be`.
    """
    return _Parser(text, where, verify).graph()


class _Parser(Reader):
    def __init__(self, text: str, where: str, verify: bool) -> None:
        super().__init__(text, where)
        self.verify = verify
        self.values: dict[str, Value] = {}
        self.repeated = 0  # bytes of all `splat` constants

    # Graph ----------------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.string()
        self.expect("{")
        inputs: list[tuple[Value, str]] = []
        outputs: list[tuple[Value, str]] = []
        old: list[tuple[Value, State]] = []
        new: list[Value] = []
        found: list[Op] = []
        while not self.accept("}"):
            if self.accept("input"):
                inputs.append(self._aliased(self._define()))
            elif self.accept("state"):
                old.append(self._state())
            elif self.accept("const"):
                self._constant()
            elif self.accept("output"):
                outputs.append(self._aliased(self._used()))
            elif self.accept("keep"):
                new.append(self._used())
            else:
                found.append(self._operation())
        if self.token.kind != "end":
            self.fail(f"is {self.token}, must be the end")
        if len(old) != len(new):
            self.fail(f"graph has {len(old)} states and keeps {len(new)}, must keep as many")
        states = tuple(state for _, state in old)
        names = tuple(state.name for state in states)
        return Graph(
            name,
            (*(v for v, _ in inputs), *(v for v, _ in old)),
            (*(v for v, _ in outputs), *new),
            tuple(found),
            (*(n for _, n in inputs), *names),
            (*(n for _, n in outputs), *names),
            states=states,
        )

    def _state(self) -> tuple[Value, State]:
        value, name = self._aliased(self._define())
        self.expect("=")
        return value, State(name, self._array(value.type, f"state {name!r}"))

    def _aliased(self, value: Value) -> tuple[Value, str]:
        return value, self.string() if self.accept("as") else value.name

    def _name(self, token: Token) -> str:
        text = token.text[1:]
        if not text.startswith('"'):
            return text.partition("#")[0]
        return self.unquoted(Token("string", text[: text.rindex('"') + 1], token.offset))

    def _used(self) -> Value:
        token = self.want("value", "a value like %x")
        if token.text not in self.values:
            self.fail(f"{token} is read before anything made it", token.offset)
        return self.values[token.text]

    def _used_or_none(self) -> Value | None:
        return None if self.accept("none") else self._used()

    def _define(self) -> Value:
        token, type_, index = self._declaration()
        return self._keep(token, Value(self._name(token), type_, None, index))

    def _declaration(self) -> tuple[Token, TensorType, int]:
        token = self.want("value", "a value like %x, input, state, const, output, keep or }")
        if token.text in self.values:
            self.fail(f"{token} exists already", token.offset)
        self.expect(":")
        type_ = self._type()
        return token, type_, self.integer() if self.accept("@") else -1

    def _keep(self, token: Token, value: Value) -> Value:
        self.values[token.text] = value
        return value

    # Types and constants --------------------------------------------------------------------

    def _type(self) -> TensorType:
        word = self.want("word", "an element type")
        try:
            dtype = DType(word.text)
        except ValueError:
            known = ", ".join(d.value for d in DType)
            self.fail(f"element type is {word}, must be one of {known}", word.offset)
        self.expect("[")
        shape = tuple(self.listed("]", self._size))
        dynamic = self.accept("dynamic")
        quantization = self._quantization() if self.accept("{") else None
        found = TensorType(dtype, shape, quantization, dynamic)
        if found.problem:
            self.fail(found.problem, word.offset)
        return found

    def _size(self) -> int:
        at, size = self.token.offset, self.integer()
        if not 0 <= size <= MOST_SIZE:
            self.fail(f"size is {size}, must be within 0 to {MOST_SIZE}", at)
        return size

    def _quantization(self) -> Quantization:
        axis = None
        if self.accept("axis"):
            axis = self.integer()
            self.expect(":")
        pairs = self.listed("}", self._scale)
        if not pairs:
            self.fail("quantisation is empty, must hold scale:zero_point")
        return Quantization(tuple(s for s, _ in pairs), tuple(z for _, z in pairs), axis)

    def _scale(self) -> tuple[float, int]:
        at, scale = self.token.offset, self.real()
        if scale not in FLOAT32:
            self.fail(f"scale is {scale:g}, must be {FLOAT32}", at)
        self.expect(":")
        return scale, self.integer()

    def _constant(self) -> None:
        token, type_, index = self._declaration()
        self.expect("=")
        data = self._array(type_, f"constant {token}")
        self._keep(token, Value(self._name(token), type_, data, index))

    def _array(self, type_: TensorType, what: str) -> Array:
        at = self.token.offset
        data = self._data(type_, what)
        if data.size != type_.size:
            self.fail(f"{what}: has {data.size} elements, must have {type_.size}", at)
        data = data.reshape(type_.shape)
        data.flags.writeable = False
        return data

    def _data(self, type_: TensorType, what: str) -> Array:
        at = self.token.offset
        if self.accept("base64"):
            raw, want = self.bytes_(), type_.size_bytes
            if len(raw) != want:
                self.fail(f"{what}: has {len(raw)} bytes, must have {want}", at)
            return np.frombuffer(raw, type_.dtype.numpy)
        if self.accept("splat"):
            self.repeated += type_.size_bytes
            if self.repeated > MOST_BYTES:
                self.fail(
                    f"{what}: has {type_.size_bytes} bytes, must have at most {MOST_BYTES} with"
                    " those before it"
                )
            return np.full(type_.size, self._items([self._literal()], type_, what, at)[0])
        if self.accept("["):
            return self._items(self.listed("]", self._literal), type_, what, at)
        if self.accept("sha256"):
            self.fail(f"{what}: holds only a digest, must hold the data (print with data=True)", at)
        return self.fail(f"is {self.token}, must be base64, splat or [numbers]")

    def _items(self, items: list[Any], type_: TensorType, what: str, at: int) -> Array:
        dtype = type_.dtype
        whole = dtype.numpy.kind in "iu"
        if dtype.numpy.kind not in "iuf":
            self.fail(f"{what}: elements of {dtype.value} must be given as base64", at)
        for item in items:
            if type(item) is not int and (whole or type(item) is not float):
                self.fail(f"{what}: element {item!r} is no number of {dtype.value}", at)
            if whole and not dtype.range[0] <= item <= dtype.range[1]:
                self.fail(f"{what}: element {item} is outside {dtype.value}", at)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite
            return np.array(items, dtype.numpy)

    # Operations -----------------------------------------------------------------------------

    def _operation(self) -> Op:
        results = self._results()
        self.expect("=")
        word = self.want("word", "an operation")
        kind = ops.class_of(word.text)
        if kind is None:
            self.fail(f"operation {word} is not known", word.offset)
        fields = self._operands(kind, word)
        for token, value in results:
            self._keep(token, value)
        values = tuple(v for _, v in results)
        if result_name(kind) == "outputs":
            fields["outputs"] = values
        elif len(values) == 1:
            fields["output"] = values[0]
        else:
            self.fail(f"{word} has {len(values)} results, must have 1", word.offset)
        fields |= self._attributes(kind)
        required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in fields]:
            self.fail(f"{word} lacks {', '.join(missing)}", word.offset)
        made = kind(**fields)
        if self.verify and (problems := made.verify()):
            self.fail(f"{made.title}: {'; '.join(problems)}", word.offset)
        return made

    def _results(self) -> list[tuple[Token, Value]]:
        if self.accept("("):
            self.expect(")")
            return []
        results = []
        while True:
            token, type_, index = self._declaration()
            results.append((token, Value(self._name(token), type_, None, index)))
            if not self.accept(","):
                return results

    def _operands(self, kind: type[Op], word: Token) -> dict[str, Any]:
        self.expect("(")
        given = self.listed(")", self._operand)
        names = operand_names(kind)
        if len(given) != len(names):
            wanted = ", ".join(names)
            self.fail(f"{word} has {len(given)} operands, must have ({wanted})", word.offset)
        hints = field_types(kind)
        for name, item in zip(names, given, strict=True):
            if not fits(item, hints[name]):
                self.fail(f"{word}: operand {name} is of the wrong kind", word.offset)
        return dict(zip(names, given, strict=True))

    def _operand(self) -> Value | tuple[Value | None, ...] | None:
        if self.accept("["):
            return tuple(self.listed("]", self._used_or_none))
        return self._used_or_none()

    def _attributes(self, kind: type[Op]) -> dict[str, Any]:
        hints, found = field_types(kind), dict[str, Any]()
        while self.token.kind == "word" and self.token.text not in _STATEMENTS:
            word = self.take()
            known = hints.get(word.text)
            if known is None or "Value" in str(known) or word.text in found:
                self.fail(f"{kind.mnemonic} has no attribute {word} here", word.offset)
            self.expect("=")
            at = self.token.offset
            item = converted(self._literal(), known)
            if not fits(item, known):
                self.fail(f"{word} is {shown(item)}, must be {kind_name(known)}", at)
            found[word.text] = item
        return found

    def _literal(self, depth: int = 0) -> Any:
        if depth > 4:
            self.fail("parentheses are nested too deeply")
        if self.accept("("):
            return tuple(self.listed(")", lambda: self._literal(depth + 1)))
        if self.token.kind == "string":
            return self.string()
        if self.token.kind == "number":
            return self.number_of(self.take())
        word = self.want("word", "a number, a string, a word or (...)").text
        if word == "base64":
            return self.bytes_()
        return {"true": True, "false": False}.get(word, Word(word))
