"""States whose content no array can say: the runtime of the model's file holds it.

Such a state is a token. Its first content is an array without elements, which asks the runtime to
begin anew. What it has later is the driver's own: an array that stands for a session of the
runtime, and that only the driver which made it can read.
"""

from __future__ import annotations

import numpy as np

from teflon.ir.graph import State, Value
from teflon.ir.types import DType, TensorType

HELD = -2
"""`Value.index` of the old and the new content, and what `Cut` calls them: no tensor has them."""

HELD_TYPE = TensorType(DType.OTHER, (0,))


def held_state(name: str) -> tuple[State, Value, Value]:
    """Return a state that a runtime holds, with the values of its old and its new content."""
    initial = np.empty(0, HELD_TYPE.dtype.numpy)
    initial.flags.writeable = False
    old, new = (Value(part, HELD_TYPE, None, HELD) for part in (name, f"{name}/new"))
    return State(name, initial), old, new


def is_held(value: Value) -> bool:
    """Whether a value is the content of a state that a runtime holds."""
    return value.index == HELD
