"""Every request fails in every way: checks the error, open files, and later inferences.

The faults happen behind the nodes of a virtual board (`teflon board --serve`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kernel.helpers import (
    A311D_FAULTS,
    IMX8MP_FAULTS,
    RESTARTED,
    ROCKET_FAULTS,
    Client,
    as_table,
    needs_shim,
    outcome,
    wrong,
)

pytestmark = needs_shim


@pytest.fixture(
    scope="module",
    params=[ROCKET_FAULTS, A311D_FAULTS, IMX8MP_FAULTS],
    ids=lambda bench: bench.chip,
)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    with request.param.door() as door:
        made = Client(request.param, door, tmp_path_factory.mktemp("client"))
        yield made
        made.close()


def fine(cell: dict[str, Any]) -> bool:
    """Whether nothing failed, nothing stayed open, and every output was right."""
    return not (cell["error"] or cell["left"] or cell["complaints"]) and bool(cell["works"])


def test_every_request_fails_in_every_way(
    client: Client, record_property: Callable[[str, object], None]
) -> None:
    bench = client.bench
    rows, problems, count = [["request", "call", *bench.errnos]], [], 0
    for name in bench.names:
        total = client.clean.count(name)
        assert total, f"a clean run has no {name}"
        for call in client.calls(name):
            cells = [(code, client.cell(f"{name}:{call}:{code}")) for code in bench.errnos]
            rows.append([name, f"{call} of {total}", *(outcome(cell) for _, cell in cells)])
            for code, cell in cells:
                problems += wrong(bench, name, call, code, cell)
            count += len(cells)
        assert fine(client.cell()), name
    title = f"summary: kernel faults of {bench.chip}: {count} cells, {len(problems)} wrong"
    record_property(title + ("" if problems else "; nothing leaked"), as_table(rows))
    assert problems == []


@pytest.mark.parametrize("code", RESTARTED)
def test_requests_that_are_interrupted_many_times(client: Client, code: str) -> None:
    names = [name for name in client.bench.names[1:] if name != "MMAP"]  # those restart
    cell = client.cell(*(f"{name}:1:{code}:20" for name in names))
    assert fine(cell)


def test_requests_that_are_slow(client: Client) -> None:
    names = client.bench.names
    cell = client.cell(*(f"{name}:1:+0.03" for name in names))
    assert fine(cell)
    assert cell["seconds"] >= 0.03 * len(names)


@pytest.mark.parametrize(
    "rules",
    ["submit:1:EIO:99 GEM_CLOSE:1:EIO:99", "make:3:ENOMEM GEM_CLOSE:1:EINVAL",
     "MMAP:2:ENOMEM GEM_CLOSE:1:EIO:2", "prepare:1:EIO:99 finish:1:EIO:99",
     "finish:1:ENODEV:99 submit:1:ENODEV:99 GEM_CLOSE:1:ENODEV:99"],
)  # fmt: skip
def test_several_faults_at_once(client: Client, rules: str) -> None:
    """The first error is raised; later errors neither hide it nor cause a leak."""
    parts = [rule.partition(":") for rule in rules.split()]
    named = [(getattr(client.bench, name, name), rest) for name, _, rest in parts]
    cell = client.cell(*(f"{name}:{rest}" for name, rest in named))
    assert cell["error"] == "DeviceError"
    assert named[0][0].lower() in cell["text"].lower()
    assert named[0][1].split(":")[1] in cell["text"]
    assert (cell["left"], cell["works"]) == ([], True)


def test_a_job_that_hangs(client: Client) -> None:
    """The wait ends by itself; the same program works again when the job has ended."""
    cell = client.cell("JOB:1:HANG:1000", limit=0.1)
    assert cell["error"] == "DeviceTimeout"
    assert client.bench.prepare in cell["text"]
    assert "another program" in cell["text"]
    assert (cell["complaints"], cell["left"], cell["works"]) == ([], [], True)


def test_a_job_that_breaks_off(client: Client) -> None:
    """The kernel resets the chip and reports nothing: the missing output is detected."""
    cell = client.cell("JOB:1:BREAK:1000")
    assert (cell["stage"], cell["error"]) == ("inference 1", "DeviceError")
    assert "was not written by the device" in cell["text"]
    assert all("stops half way" in text for text in cell["complaints"])
    assert (cell["left"], cell["works"]) == ([], True)


def test_the_check_of_a_cell_finds_failures() -> None:
    """The check of a cell sees what it should see."""
    good = {"rules": "", "error": "DeviceError", "text": "x EIO (see y)", "left": [],
            "complaints": [], "works": True}  # fmt: skip
    assert wrong(ROCKET_FAULTS, "SUBMIT", 1, "EIO", good) == []
    for change in ({"error": ""}, {"text": "x (y)"}, {"text": "x EIO"}, {"left": ["1 handles"]},
                   {"works": False}, {"complaints": ["x"]}):  # fmt: skip
        assert len(wrong(ROCKET_FAULTS, "SUBMIT", 1, "EIO", {**good, **change})) == 1
