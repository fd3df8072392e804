"""An operation that we do not know: carried, reported, never computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from teflon.ir.graph import Op, Value
from teflon.ir.types import TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class Opaque(Op):
    """An operation of the model file that the IR has no class for.

    `kind` is its name there (`GATHER_ND`, or a custom op's own name), `options` the raw bytes of
    its options: of a TFLite builtin a flatbuffer whose root is the table `options_type`, of a
    custom one (`options_type` "CUSTOM") what the file has. `reason` says why it was not read as
    something known.
    """

    mnemonic = "opaque"

    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    kind: str
    version: int = 1
    options: bytes = b""
    options_type: str = ""
    reason: str = ""

    @property
    def kind_name(self) -> str:
        return self.kind

    def infer(self) -> tuple[TensorType, ...]:
        return tuple(v.type for v in self.outputs)

    @cached_property
    def refusal(self) -> str:
        return self.reason or "there is no kernel for this operation"
