"""Strategy `mesa` against what Mesa 26.2.6 really submitted."""

from __future__ import annotations

import pytest

from teflon_etnaviv import cmdstream
from teflon_etnaviv.program import EtnavivProgram
from tests.counts import COUNTS, Count
from tests.etnaviv.parity import CHIPS, NAMES, Matched, recording_of
from tests.paths import needs_shared

pytestmark = needs_shared


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", NAMES)
def test_program_equals_the_recorded_one(name: str, chip: str) -> None:
    """Buffer sizes and order, coefficients, instructions, tables, streams, BO lists, addresses."""
    matched = Matched(chip, name)
    assert list(matched.problems()) == []
    count = COUNTS.setdefault(f"etnaviv {chip} programs equal to recorded ones", Count())
    count.cases += 1
    count.elements += len(matched.made)


def test_all_recordings_are_compared() -> None:
    assert len(NAMES) == 295


@pytest.mark.parametrize("chip", CHIPS)
def test_first_submit_of_a_process(chip: str) -> None:
    recording = recording_of(chip, "mb-004")
    assert cmdstream.init_stream() == recording.stream(0)
    assert recording.submits[0]["bos"] == []


@pytest.mark.parametrize("chip", CHIPS)
def test_programs_survive_their_file(chip: str) -> None:
    for name in ("mb-000", "mobiledet-008", "mb-028"):
        for part in Matched(chip, name).parts:
            again = EtnavivProgram.from_bytes(part.program.to_bytes(), chip)
            for field in ("buffers", "stream", "relocs", "bos", "input_ports", "output_ports"):
                assert getattr(again, field) == getattr(part.program, field)
