"""The memory of a simulated device: views, bounds, overlaps."""

import re

import numpy as np
import pytest

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory


@pytest.fixture
def memory() -> DeviceMemory:
    memory = DeviceMemory()
    memory.map(0x1000, bytearray(range(64)), "first")
    memory.map(0x2000, np.zeros(32, np.uint8), "second")
    return memory


def test_views_share_the_buffer(memory: DeviceMemory) -> None:
    memory.view(0x2004, 4, "test")[:] = 7
    assert memory.view(0x2000, 8, "test").tolist() == [0, 0, 0, 0, 7, 7, 7, 7]


def test_strided_reads_any_order(memory: DeviceMemory) -> None:
    got = memory.strided(0x1010, (2, 3), (16, -4), np.int8, "test")
    assert got.tolist() == [[16, 12, 8], [32, 28, 24]]
    words = memory.strided(0x1004, (2,), (4,), "<i4", "test")
    assert words.tolist() == [0x07060504, 0x0B0A0908]


@pytest.mark.parametrize(
    ("address", "size", "text"),
    [
        (
            0x1800,
            4,
            "CNA features: #00001800 is in no buffer, must be in one"
            " (nearest: first (#00001000..#00001040))",
        ),
        (
            0x103E,
            4,
            "CNA features: 4 bytes at #0000103e end at #00001042, must stay within"
            " first (#00001000..#00001040)",
        ),
    ],
)
def test_outside_of_a_buffer(memory: DeviceMemory, address: int, size: int, text: str) -> None:
    with pytest.raises(SimulatorFault, match=f"^{re.escape(text)}$"):
        memory.view(address, size, "CNA features")


def test_strided_is_checked_at_both_ends(memory: DeviceMemory) -> None:
    with pytest.raises(SimulatorFault, match=r"^x: #00000ffc is in no buffer"):
        memory.strided(0x1004, (2,), (-8,), np.uint8, "x")
    with pytest.raises(SimulatorFault, match=r"^x: 49 bytes at #00001010 end at"):
        memory.strided(0x1010, (4,), (16,), np.uint8, "x")


def test_overlap_and_unmap(memory: DeviceMemory) -> None:
    with pytest.raises(SimulatorFault, match=r"^memory: third .* overlaps first"):
        memory.map(0x103F, bytearray(2), "third")
    with pytest.raises(SimulatorFault, match=r"^memory: third .* overlaps second"):
        memory.map(0x1FFF, bytearray(2), "third")
    memory.unmap(0x1000)
    with pytest.raises(SimulatorFault, match=r"^memory: no buffer starts at #00001000"):
        memory.unmap(0x1000)
