"""What shapes a model's tensors get when its inputs have others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from teflon.errors import DriverUnavailable, ModelError
from teflon.pipe import Data
from teflon_tflite.child import CHILD, Crash
from teflon_tflite.runtimes import CURE, MISSING, found


def tensor_shapes(model: Data, inputs: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """Return the shapes by tensor number, in a process of its own since the file is not trusted.

    Raises ModelError, DriverUnavailable.
    """
    if not found():
        raise DriverUnavailable(f"{MISSING} ({CURE})")
    wanted = {str(number): [int(n) for n in shape] for number, shape in inputs.items()}
    request = {"runtime": found(), "shapes": wanted}
    try:
        answer = CHILD.ask(request, model)
    except Crash as crash:
        raise ModelError(f"shapes of the inputs: {crash}") from None
    if "problem" in answer:
        raise ModelError(f"shapes of the inputs: {answer['problem']}")
    return {int(number): tuple(shape) for number, shape in answer["shapes"].items()}
