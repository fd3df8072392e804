"""One class per operation: operands, attributes, result types, checks, exact meaning.

Each module below is a family of operations. A public class with a mnemonic in one of them is found
by itself; there is no other list of operations.
"""

# ruff: noqa: F403

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from teflon.ir.graph import Op as _Op
from teflon.ir.ops.activation import *
from teflon.ir.ops.blocks import *
from teflon.ir.ops.convolution import *
from teflon.ir.ops.detection import *
from teflon.ir.ops.elementwise import *
from teflon.ir.ops.functions import *
from teflon.ir.ops.joining import *
from teflon.ir.ops.matmul import *
from teflon.ir.ops.opaque import *
from teflon.ir.ops.pooling import *
from teflon.ir.ops.quantize import *
from teflon.ir.ops.recurrent import *
from teflon.ir.ops.reduction import *
from teflon.ir.ops.resize import *
from teflon.ir.ops.shaping import *
from teflon.ir.ops.slicing import *
from teflon.ir.ops.table import *


def _found() -> dict[str, type[_Op]]:
    classes = [c for c in globals().values() if isinstance(c, type) and issubclass(c, _Op)]
    return {c.__name__: c for c in sorted(classes, key=lambda c: c.__name__) if c.mnemonic}


CLASSES: Final = tuple(_found().values())
"""Every operation, by name."""

if not TYPE_CHECKING:  # type checkers take the star imports as they are
    __all__ = ["CLASSES", "class_of", *_found()]

_BY_MNEMONIC: Final = {c.mnemonic: c for c in CLASSES}


def class_of(mnemonic: str) -> type[_Op] | None:
    """Return the class of a word of the text form; None where there is none.

    Our own operations come first, then those that a driver derived from `Op`.
    """
    if mnemonic in _BY_MNEMONIC:
        return _BY_MNEMONIC[mnemonic]
    pending = _Op.__subclasses__()
    while pending:
        found = pending.pop()
        if found.mnemonic == mnemonic:
            return found
        pending.extend(found.__subclasses__())
    return None
