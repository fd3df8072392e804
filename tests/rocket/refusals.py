"""What a broken program must end with."""

from __future__ import annotations

import pytest

from teflon.errors import SimulatorFault
from tests.rocket.lists import Bench


def refused(bench: Bench, words: list[int] | None, text: str) -> None:
    """Run a bench and see it refused, for the reason that a regular expression has."""
    with pytest.raises(SimulatorFault, match=f"^task 7: {text}"):
        bench.run(words, "task 7")
