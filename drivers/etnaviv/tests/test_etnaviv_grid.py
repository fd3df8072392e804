"""Generated operations, strategy exact, on all simulated chips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from teflon.pipe import Context
from tests.etnaviv.grid import CASES, check_block, opened
from tests.rocket.grid import blocks


@pytest.fixture(scope="module", params=["a311d", "s905d3", "imx8mp"])
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("block", blocks(3))
def test_generated_operations(context: Context, kind: str, block: int) -> None:
    check_block(context, CASES[kind], block)
