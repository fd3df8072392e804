"""Windows that leave a part of the map over, and single pixels of several images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from teflon.ir.builder import Builder
from teflon.pipe import Context
from tests.etnaviv.grid import opened
from tests.etnaviv.moved import difference

CHIPS = ("a311d", "s905d3", "imx8mp")


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


@pytest.mark.parametrize("kernel", [(17, 4), (17, 17), (4, 17), (17, 12)])
def test_a_large_window_that_leaves_rows_and_columns_over(
    context: Context, kernel: tuple[int, int]
) -> None:
    """The last block of a window is filled up, not with what lies behind the window."""
    b = Builder("mean")
    x = b.input("x", "u8", (1, 19, 20, 5), scale=0.1, zero_point=128)
    b.output(b.average_pool2d(x, kernel, stride=(4, 6), padding="valid"))
    assert difference(context, b.build()) <= 1


@pytest.mark.parametrize("size", [(2, 2), (3, 1), (1, 4)])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_one_pixel_of_each_image_is_spread(
    context: Context, images: int, size: tuple[int, int]
) -> None:
    b = Builder("spread")
    x = b.input("x", "i8", (images, 1, 1, 7), scale=0.1, zero_point=3)
    b.output(b.resize_nearest_neighbor(x, size))
    b.output(b.resize_bilinear(x, size))
    assert difference(context, b.build()) == 0
